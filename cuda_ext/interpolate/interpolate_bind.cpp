#include "common/array.h"
#include "common/bindings.h"
#include "interpolate/interpolate.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
InterpolateArgs<T> make_args(const Array<const T, Device>& attributes, const Array<const int32_t, Device>& corners,
                             const Array<const int32_t, Device>& triangle, const Array<const T, Device>& barycentrics) {
    require(attributes.ndim() == 3 && corners.ndim() == 2 && triangle.ndim() == 3 && barycentrics.ndim() == 4,
            "interpolate: attributes [b,u,c], corners [f,3], triangle [b,h,w], barycentrics [b,h,w,3]");
    InterpolateArgs<T> a{};
    a.attributes = attributes.data();
    a.corners = corners.data();
    a.triangle = triangle.data();
    a.barycentrics = barycentrics.data();
    a.b = int64_t(triangle.shape(0));
    a.height = int64_t(triangle.shape(1));
    a.width = int64_t(triangle.shape(2));
    a.u = int64_t(attributes.shape(1));
    a.c = int64_t(attributes.shape(2));
    a.f = int64_t(corners.shape(0));
    a.shared = attributes.shape(0) == 1;
    require(a.shared || int64_t(attributes.shape(0)) == a.b, "interpolate: attributes and triangle differ in batch size");
    return a;
}

template <typename T>
void check(const InterpolateArgs<T>& a) {
    for (int64_t i = 0; i < a.f * 3; ++i)
        require(a.corners[i] >= 0 && a.corners[i] < a.u, "interpolate: corners name an attribute that does not exist.");
    bool ok = true;
    for (int64_t i = 0; i < a.b * a.height * a.width; ++i) ok &= a.triangle[i] < a.f;
    require(ok, "interpolate: triangle names a face that does not exist.");
}

template <typename T>
void bind_cpu(nb::module_& m) {
    using In = CpuArray<const T>;
    using Out = CpuArray<T>;
    using Ids = CpuArray<const int32_t>;
    m.def("interpolate_forward", [](In attributes, Ids corners, Ids triangle, In barycentrics, Out out, int threads) {
        auto a = make_args<T, nb::device::cpu>(attributes, corners, triangle, barycentrics);
        check(a);
        a.out = out.data();
        AVATAR3D_DISPATCH(interpolate_forward<T>(a, threads));
    });
    m.def("interpolate_backward", [](In attributes, Ids corners, Ids triangle, In barycentrics, In grad_out,
                                     Out grad_attributes, Out grad_barycentrics, int threads) {
        const auto a = make_args<T, nb::device::cpu>(attributes, corners, triangle, barycentrics);
        const InterpolateGrads<T> g{grad_out.data(), grad_attributes.size() ? grad_attributes.data() : nullptr,
                                    grad_barycentrics.data()};
        AVATAR3D_DISPATCH(interpolate_backward<T>(a, g, threads));
    });
}

#ifdef AVATAR3D_WITH_CUDA
template <typename T>
void bind_cuda(nb::module_& m) {
    using In = CudaArray<const T>;
    using Out = CudaArray<T>;
    using Ids = CudaArray<const int32_t>;
    m.def("interpolate_forward_cuda",
          [](In attributes, Ids corners, Ids triangle, In barycentrics, Out out, uint64_t stream) {
              auto a = make_args<T, nb::device::cuda>(attributes, corners, triangle, barycentrics);
              a.out = out.data();
              cuda::interpolate_forward<T>(a, stream);
          });
    m.def("interpolate_backward_cuda", [](In attributes, Ids corners, Ids triangle, In barycentrics, In grad_out,
                                          Out grad_attributes, Out grad_barycentrics, uint64_t stream) {
        const auto a = make_args<T, nb::device::cuda>(attributes, corners, triangle, barycentrics);
        const InterpolateGrads<T> g{grad_out.data(), grad_attributes.size() ? grad_attributes.data() : nullptr,
                                    grad_barycentrics.data()};
        cuda::interpolate_backward<T>(a, g, stream);
    });
}
#endif

}  // namespace

void bind_interpolate(nb::module_& m) {
    bind_cpu<float>(m);
    bind_cpu<double>(m);
#ifdef AVATAR3D_WITH_CUDA
    bind_cuda<float>(m);
    bind_cuda<double>(m);
#endif
}

}  // namespace avatar3d
