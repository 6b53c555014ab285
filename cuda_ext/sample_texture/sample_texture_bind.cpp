#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <utility>
#include <vector>

#include "common/array.h"
#include "common/bindings.h"
#include "sample_texture/sample_texture.h"

namespace avatar3d {
namespace {

using Sizes = std::vector<std::pair<int, int>>;  // (height, width) of every level, finest first

template <typename T, typename Device>
TextureArgs<T> make_args(const Array<const T, Device>& texels, const Sizes& sizes, const Array<const T, Device>& uv,
                         const Array<const T, Device>& level) {
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
    a.level = level.size() ? level.data() : nullptr;
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

template <typename T>
void bind_cpu(nb::module_& m) {
    using In = CpuArray<const T>;
    using Out = CpuArray<T>;
    m.def("sample_texture_forward", [](In texels, Sizes sizes, In uv, In level, Out out, int threads) {
        auto a = make_args<T, nb::device::cpu>(texels, sizes, uv, level);
        a.out = out.data();
        AVATAR3D_DISPATCH(sample_texture_forward<T>(a, threads));
    });
    m.def("sample_texture_backward", [](In texels, Sizes sizes, In uv, In level, In grad_out, Out grad_texels,
                                        Out grad_uv, Out grad_level, int threads) {
        const auto a = make_args<T, nb::device::cpu>(texels, sizes, uv, level);
        const TextureGrads<T> g{grad_out.data(), grad_texels.size() ? grad_texels.data() : nullptr, grad_uv.data(),
                                grad_level.size() ? grad_level.data() : nullptr};
        AVATAR3D_DISPATCH(sample_texture_backward<T>(a, g, threads));
    });
}

#ifdef AVATAR3D_WITH_CUDA
template <typename T>
void bind_cuda(nb::module_& m) {
    using In = CudaArray<const T>;
    using Out = CudaArray<T>;
    m.def("sample_texture_forward_cuda", [](In texels, Sizes sizes, In uv, In level, Out out, uint64_t stream) {
        auto a = make_args<T, nb::device::cuda>(texels, sizes, uv, level);
        a.out = out.data();
        cuda::sample_texture_forward<T>(a, stream);
    });
    m.def("sample_texture_backward_cuda", [](In texels, Sizes sizes, In uv, In level, In grad_out, Out grad_texels,
                                             Out grad_uv, Out grad_level, uint64_t stream) {
        const auto a = make_args<T, nb::device::cuda>(texels, sizes, uv, level);
        const TextureGrads<T> g{grad_out.data(), grad_texels.size() ? grad_texels.data() : nullptr, grad_uv.data(),
                                grad_level.size() ? grad_level.data() : nullptr};
        cuda::sample_texture_backward<T>(a, g, stream);
    });
}
#endif

}  // namespace

void bind_sample_texture(nb::module_& m) {
    bind_cpu<float>(m);
    bind_cpu<double>(m);
#ifdef AVATAR3D_WITH_CUDA
    bind_cuda<float>(m);
    bind_cuda<double>(m);
#endif
}

}  // namespace avatar3d
