#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <utility>
#include <vector>

#include "common/bind.h"
#include "sample_texture/sample_texture.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct SampleTexture {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;
    using Sizes = std::vector<std::pair<int, int>>;  // (height, width) of every level, finest first

    static TextureArgs<T> args(const In& texels, const Sizes& sizes, const In& uv, const In& level) {
        require(texels.ndim() == 3 && uv.ndim() == 3 && uv.shape(2) == 2, "sample_texture: texels [b,n,c], uv [b,p,2]");
        require(!sizes.empty() && sizes.size() <= kMaxLevels, "sample_texture: 1 to 16 levels");
        TextureArgs<T> a{};
        a.texels = texels.data();
        a.uv = uv.data();
        a.b = int64_t(uv.shape(0));
        a.pixels = int64_t(uv.shape(1));
        a.texel_count = int64_t(texels.shape(1));
        a.c = int64_t(texels.shape(2));
        a.shared = texels.shape(0) == 1;
        require(a.shared || int64_t(texels.shape(0)) == a.b, "sample_texture: texture and uv differ in batch size");
        a.level = data_or_null(level);
        require(!a.level || int64_t(level.size()) == a.b * a.pixels, "sample_texture: level [b,p]");
        int64_t total = 0;
        a.pyramid.count = int32_t(sizes.size());
        for (size_t i = 0; i < sizes.size(); ++i) {
            a.pyramid.height[i] = sizes[i].first;
            a.pyramid.width[i] = sizes[i].second;
            a.pyramid.offset[i] = total;
            total += int64_t(sizes[i].first) * sizes[i].second;
        }
        require(total == a.texel_count, "sample_texture: level sizes do not add up to the texels");
        return a;
    }

    static void bind(nb::module_& m) {
        define<Device>(m, "sample_texture_forward", [](In texels, Sizes sizes, In uv, In level, Out out,
                                                       Queue<Device> queue) {
            auto a = args(texels, sizes, uv, level);
            a.out = out.data();
            AVATAR3D_RUN(Device, sample_texture_forward<T>(a, queue));
        });
        define<Device>(m, "sample_texture_backward", [](In texels, Sizes sizes, In uv, In level, In grad_out,
                                                        Out grad_texels, Out grad_uv, Out grad_level,
                                                        Queue<Device> queue) {
            const auto a = args(texels, sizes, uv, level);
            const TextureGrads<T> g{grad_out.data(), data_or_null(grad_texels), grad_uv.data(),
                                    data_or_null(grad_level)};
            AVATAR3D_RUN(Device, sample_texture_backward<T>(a, g, queue));
        });
    }
};

}  // namespace

void bind_sample_texture(nb::module_& m) { bind_everywhere<SampleTexture>(m); }

}  // namespace avatar3d
