#include "blend_splats/blend_splats.h"
#include "blend_splats/blend_splats_cuda.h"
#include "common/bind.h"

namespace avatar3d {
namespace {

constexpr int kCudaIntersection = 8;  // bytes: splat_of and slots

template <typename T, typename Device>
struct BlendSplats {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;
    using Bytes = Array<uint8_t, Device>;
    using Ids = Array<int32_t, Device>;
    using Offsets = Array<int64_t, Device>;

    static BlendArgs<T> args(const In& pixels, const In& conics, const In& opacities, const In& depths,
                             const In& attributes, const In& background, int width, int height) {
        require(pixels.ndim() == 3 && pixels.shape(2) == 2, "blend_splats: pixels [b,n,2]");
        require(attributes.ndim() == 3 && background.ndim() == 2, "blend_splats: attributes [b|1,n,c], background [b|1,c]");
        require(width > 0 && height > 0 && width <= kSplatMaxSide && height <= kSplatMaxSide, "blend_splats: size 1..32767");
        BlendArgs<T> a{pixels.data(), conics.data(), opacities.data(), depths.data(), attributes.data(), background.data(),
                       int64_t(pixels.shape(0)), int64_t(pixels.shape(1)), int64_t(attributes.shape(2)),
                       int64_t(attributes.shape(0)), int64_t(background.shape(0)), width, height};
        const auto images = [&](int64_t size) { return size == 1 || size == a.b; };
        require(int64_t(conics.size()) == a.b * a.n * 3 && int64_t(opacities.size()) == a.b * a.n &&
                    int64_t(depths.size()) == a.b * a.n && images(a.attribute_images) && images(a.background_images) &&
                    int64_t(attributes.shape(1)) == a.n && int64_t(background.shape(1)) == a.c,
                "blend_splats: sizes disagree");
        require(a.b * a.n < (int64_t(1) << 31), "blend_splats: more than 2^31 splats");
        return a;
    }

    static BlendScratch scratch(const Bytes& splats, const Bytes& boxes, const Ids& counts, const Bytes& intersections,
                                const Offsets& tiles) {
        return {splats.data(), reinterpret_cast<SplatBox*>(boxes.data()), counts.data(),
                reinterpret_cast<SplatIntersection*>(intersections.data()), tiles.data()};
    }

    static void bind(nb::module_& m) {
        define<Device>(m, "blend_splats_count",
                       [](In pixels, In conics, In opacities, In depths, In attributes, In background, int width, int height,
                          Bytes splats, Bytes boxes, Ids counts, Queue<Device> queue) {
                           const auto a = args(pixels, conics, opacities, depths, attributes, background, width, height);
                           const BlendScratch s{splats.data(), reinterpret_cast<SplatBox*>(boxes.data()), counts.data(),
                                                nullptr, nullptr};
                           int64_t total = 0;
                           AVATAR3D_DISPATCH(blend_splats_count<T>(a, s, &total, queue));
                           require(total < (int64_t(1) << 31), "blend_splats: more than 2^31 intersections of splats and tiles");
                           return total;
                       });
        define<Device>(m, "blend_splats_forward",
                       [](In pixels, In conics, In opacities, In depths, In attributes, In background, int width, int height,
                          Bytes splats, Bytes boxes, Ids counts, Bytes intersections, Offsets tiles, Out image, Out alpha,
                          Out transmittance, Ids last, Queue<Device> queue) {
                           const auto a = args(pixels, conics, opacities, depths, attributes, background, width, height);
                           const BlendImages<T> out{image.data(), alpha.data(), data_or_null(transmittance), data_or_null(last)};
                           AVATAR3D_DISPATCH(blend_splats_forward<T>(a, scratch(splats, boxes, counts, intersections, tiles),
                                                                     out, queue));
                       });
        define<Device>(m, "blend_splats_backward",
                       [](In pixels, In conics, In opacities, In depths, In attributes, In background, int width, int height,
                          Bytes splats, Bytes intersections, Offsets tiles, In transmittance, Array<const int32_t, Device> last,
                          In grad_image, In grad_alpha, Out gradients, Out to_pixels, Out to_conics, Out to_opacities,
                          Out to_attributes, Out to_background, Out to_absolute, Queue<Device> queue) {
                           const auto a = args(pixels, conics, opacities, depths, attributes, background, width, height);
                           const BlendScratch s{splats.data(), nullptr, nullptr,
                                                reinterpret_cast<SplatIntersection*>(intersections.data()), tiles.data()};
                           const BlendGrads<T> g{grad_image.data(), data_or_null(grad_alpha), transmittance.data(), last.data(),
                                                 to_pixels.data(), to_conics.data(), to_opacities.data(),
                                                 to_attributes.data(), data_or_null(to_background),
                                                 data_or_null(to_absolute)};
                           AVATAR3D_DISPATCH(blend_splats_backward<T>(a, s, g, gradients.data(), queue));
                       });
    }

#ifdef AVATAR3D_WITH_CUDA
    static cuda::BlendLists<T> lists(const Bytes& splats, const Bytes& intersections, const Offsets& tiles) {
        const int64_t total = int64_t(intersections.size()) / kCudaIntersection;
        auto* slots = reinterpret_cast<int32_t*>(intersections.data());
        return {reinterpret_cast<SplatRecord<T>*>(splats.data()), slots, slots + total, tiles.data()};
    }

    static void bind_cuda(nb::module_& m) {
        define<Device>(m, "blend_splats_count",
                       [](In pixels, In conics, In opacities, In depths, In attributes, In background, int width, int height,
                          Bytes splats, Bytes counting, Queue<Device> queue) {
                           const auto a = args(pixels, conics, opacities, depths, attributes, background, width, height);
                           require(a.b * cuda::tiles_of(width, height) < (int64_t(1) << 31), "blend_splats: more than 2^31 tiles");
                           require(int64_t(counting.size()) >= cuda::blend_splats_count_bytes(a.b * a.n, sizeof(T) == 8) &&
                                       splats.size() == size_t(a.b * a.n) * sizeof(SplatRecord<T>),
                                   "blend_splats: sizes of the scratch");
                           const cuda::BlendLists<T> to{reinterpret_cast<SplatRecord<T>*>(splats.data()), nullptr, nullptr, nullptr};
                           const int64_t total = cuda::blend_splats_count<T>(a, to, counting.data(), queue);
                           require(total < (int64_t(1) << 31), "blend_splats: more than 2^31 intersections of splats and tiles");
                           return total;
                       });
        define<Device>(m, "blend_splats_forward",
                       [](In pixels, In conics, In opacities, In depths, In attributes, In background, int width, int height,
                          Bytes splats, Bytes counting, Bytes sorting, Bytes intersections, Offsets tiles, Out image,
                          Out alpha, Out transmittance, Ids last, Queue<Device> queue) {
                           const auto a = args(pixels, conics, opacities, depths, attributes, background, width, height);
                           const int64_t total = int64_t(intersections.size()) / kCudaIntersection;
                           const int64_t count = a.b * cuda::tiles_of(width, height);
                           require(int64_t(sorting.size()) >= cuda::blend_splats_sort_bytes(total, count) &&
                                       int64_t(tiles.size()) == count + 1,
                                   "blend_splats: sizes of the scratch");
                           const BlendImages<T> out{image.data(), alpha.data(), data_or_null(transmittance), data_or_null(last)};
                           cuda::blend_splats_forward<T>(a, lists(splats, intersections, tiles), counting.data(), sorting.data(),
                                                         total, out, queue);
                       });
        define<Device>(m, "blend_splats_backward",
                       // `to_background` gets the sums of every tile.
                       [](In pixels, In conics, In opacities, In depths, In attributes, In background, int width, int height,
                          Bytes splats, Bytes intersections, Offsets tiles, In transmittance, Array<const int32_t, Device> last,
                          In grad_image, In grad_alpha, Out gradients, Out to_pixels, Out to_conics, Out to_opacities,
                          Out to_attributes, Out to_background, Out to_absolute, Queue<Device> queue) {
                           const auto a = args(pixels, conics, opacities, depths, attributes, background, width, height);
                           const BlendGrads<T> g{grad_image.data(), grad_alpha.data(), transmittance.data(), last.data(),
                                                 to_pixels.data(), to_conics.data(), to_opacities.data(),
                                                 to_attributes.data(), data_or_null(to_background),
                                                 data_or_null(to_absolute)};
                           cuda::blend_splats_backward<T>(a, lists(splats, intersections, tiles), g, gradients.data(), queue);
                       });
    }
#endif
};

}  // namespace

void bind_blend_splats(nb::module_& m) {
    m.attr("BLEND_SPLATS_TILE") = kSplatTile;
    m.attr("BLEND_SPLATS_TILE_CUDA") = cuda::kTile;
    m.attr("BLEND_SPLATS_CHUNKS") = kSplatChunks;
    m.attr("BLEND_SPLATS_INTERSECTION_BYTES") = sizeof(SplatIntersection);
    m.attr("BLEND_SPLATS_INTERSECTION_BYTES_CUDA") = kCudaIntersection;
    m.attr("BLEND_SPLATS_BOX_BYTES") = sizeof(SplatBox);
    m.attr("BLEND_SPLATS_RECORD_BYTES") = nb::make_tuple(sizeof(SplatRecord<float>), sizeof(SplatRecord<double>));
    m.def("blend_splats_stride", blend_splats_stride);
    BlendSplats<float, nb::device::cpu>::bind(m);
    BlendSplats<double, nb::device::cpu>::bind(m);
#ifdef AVATAR3D_WITH_CUDA
    m.def("blend_splats_count_bytes", cuda::blend_splats_count_bytes);
    m.def("blend_splats_sort_bytes", cuda::blend_splats_sort_bytes);
    BlendSplats<float, nb::device::cuda>::bind_cuda(m);
    BlendSplats<double, nb::device::cuda>::bind_cuda(m);
#endif
}

}  // namespace avatar3d
