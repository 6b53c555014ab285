#include "common/array.h"
#include "common/bindings.h"
#include "skin/skin.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
SkinArgs<T> make_args(const Array<const T, Device>& points, const Array<const T, Device>& weights,
                      const Array<const T, Device>& maps) {
    require(points.ndim() == 3 && weights.ndim() == 2 && maps.ndim() == 4, "skin: points [b,v,3], weights [v,j], maps [b,j,4,4]");
    SkinArgs<T> a{points.data(), weights.data(), maps.data(), int64_t(points.shape(0)), int64_t(points.shape(1)),
                  int64_t(weights.shape(1)), nullptr};
    require(int64_t(weights.shape(0)) == a.v && int64_t(maps.shape(0)) == a.b && int64_t(maps.shape(1)) == a.j,
            "skin: sizes disagree");
    return a;
}

template <typename T>
void bind_cpu(nb::module_& m) {
    using In = CpuArray<const T>;
    using Out = CpuArray<T>;
    m.def("skin_forward", [](In points, In weights, In maps, Out out, int threads) {
        auto a = make_args<T, nb::device::cpu>(points, weights, maps);
        a.out = out.data();
        AVATAR3D_DISPATCH(skin_forward<T>(a, threads));
    });
    m.def("skin_backward", [](In points, In weights, In maps, In grad_out, Out grad_points, Out grad_weights,
                              Out grad_maps, int threads) {
        const auto a = make_args<T, nb::device::cpu>(points, weights, maps);
        const SkinGrads<T> g{grad_out.data(), grad_points.data(), grad_weights.size() ? grad_weights.data() : nullptr,
                             grad_maps.data()};
        AVATAR3D_DISPATCH(skin_backward<T>(a, g, threads));
    });
}

#ifdef AVATAR3D_WITH_CUDA
template <typename T>
void bind_cuda(nb::module_& m) {
    using In = CudaArray<const T>;
    using Out = CudaArray<T>;
    m.def("skin_forward_cuda", [](In points, In weights, In maps, Out out, uint64_t stream) {
        auto a = make_args<T, nb::device::cuda>(points, weights, maps);
        a.out = out.data();
        cuda::skin_forward<T>(a, stream);
    });
    m.def("skin_backward_cuda", [](In points, In weights, In maps, In grad_out, Out grad_points, Out grad_weights,
                                   Out grad_maps, uint64_t stream) {
        const auto a = make_args<T, nb::device::cuda>(points, weights, maps);
        const SkinGrads<T> g{grad_out.data(), grad_points.data(), grad_weights.size() ? grad_weights.data() : nullptr,
                             grad_maps.data()};
        cuda::skin_backward<T>(a, g, stream);
    });
}
#endif

}  // namespace

void bind_skin(nb::module_& m) {
    bind_cpu<float>(m);
    bind_cpu<double>(m);
#ifdef AVATAR3D_WITH_CUDA
    bind_cuda<float>(m);
    bind_cuda<double>(m);
#endif
}

}  // namespace avatar3d
