#include "common/array.h"
#include "common/bindings.h"
#include "screen_derivatives/screen_derivatives.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
DerivativeArgs<T> make_args(const Array<const T, Device>& points, const Array<const int32_t, Device>& faces,
                            const Array<const int32_t, Device>& triangle, const Array<const T, Device>& barycentrics,
                            const Array<const T, Device>& depth, const Array<T, Device>& out) {
    require(points.ndim() == 3 && faces.ndim() == 2 && triangle.ndim() == 3,
            "screen_derivatives: points [b,v,3], faces [f,3], triangle [b,h,w]");
    DerivativeArgs<T> a{};
    a.points = points.data();
    a.faces = faces.data();
    a.triangle = triangle.data();
    a.barycentrics = barycentrics.data();
    a.depth = depth.data();
    a.b = int64_t(points.shape(0));
    a.v = int64_t(points.shape(1));
    a.f = int64_t(faces.shape(0));
    a.pixels = int64_t(triangle.shape(1)) * int64_t(triangle.shape(2));
    a.out = out.data();
    const int64_t n = a.b * a.pixels;
    require(int64_t(triangle.shape(0)) == a.b && int64_t(barycentrics.size()) == n * 3 && int64_t(depth.size()) == n &&
                int64_t(out.size()) == n * 6,
            "screen_derivatives: sizes disagree");
    return a;
}

template <typename T>
void bind_cpu(nb::module_& m) {
    using In = CpuArray<const T>;
    using Ids = CpuArray<const int32_t>;
    m.def("screen_derivatives_forward",
          [](In points, Ids faces, Ids triangle, In barycentrics, In depth, CpuArray<T> out, int threads) {
              const auto a = make_args<T, nb::device::cpu>(points, faces, triangle, barycentrics, depth, out);
              bool ok = true;
              for (int64_t i = 0; i < a.f * 3; ++i) ok &= a.faces[i] >= 0 && a.faces[i] < a.v;
              for (int64_t i = 0; i < a.b * a.pixels; ++i) ok &= a.triangle[i] < a.f;
              require(ok, "screen_derivatives: faces or triangle name something that does not exist.");
              AVATAR3D_DISPATCH(screen_derivatives_forward<T>(a, threads));
          });
}

#ifdef AVATAR3D_WITH_CUDA
template <typename T>
void bind_cuda(nb::module_& m) {
    using In = CudaArray<const T>;
    using Ids = CudaArray<const int32_t>;
    m.def("screen_derivatives_forward_cuda",
          [](In points, Ids faces, Ids triangle, In barycentrics, In depth, CudaArray<T> out, uint64_t stream) {
              cuda::screen_derivatives_forward<T>(
                  make_args<T, nb::device::cuda>(points, faces, triangle, barycentrics, depth, out), stream);
          });
}
#endif

}  // namespace

void bind_screen_derivatives(nb::module_& m) {
    bind_cpu<float>(m);
    bind_cpu<double>(m);
#ifdef AVATAR3D_WITH_CUDA
    bind_cuda<float>(m);
    bind_cuda<double>(m);
#endif
}

}  // namespace avatar3d
