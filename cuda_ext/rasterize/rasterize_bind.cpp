#include <algorithm>

#include "common/array.h"
#include "common/bindings.h"
#include "rasterize/rasterize.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
RasterArgs<T> make_args(const Array<const T, Device>& points, const Array<const int32_t, Device>& faces, int height,
                        int width, double near, bool cull) {
    require(points.ndim() == 3 && points.shape(2) == 3, "rasterize: points [b,v,3]");
    require(faces.ndim() == 2 && faces.shape(1) == 3, "rasterize: faces [f,3]");
    require(height > 0 && width > 0 && height <= 32767 && width <= 32767, "rasterize: size 1..32767");
    RasterArgs<T> a{};
    a.points = points.data();
    a.faces = faces.data();
    a.b = int64_t(points.shape(0));
    a.v = int64_t(points.shape(1));
    a.f = int64_t(faces.shape(0));
    a.height = height;
    a.width = width;
    a.near = T(near);
    a.cull = cull;
    return a;
}

template <typename T>
void bind_cpu(nb::module_& m) {
    using In = CpuArray<const T>;
    using Out = CpuArray<T>;
    using Ids = CpuArray<const int32_t>;
    m.def("rasterize_forward", [](In points, Ids faces, int height, int width, double near, bool cull,
                                  CpuArray<int32_t> triangle, Out barycentrics, Out depth, int threads) {
        auto a = make_args<T, nb::device::cpu>(points, faces, height, width, near, cull);
        uint32_t greatest = 0;  // a negative index is the greatest of all
        for (int64_t i = 0; i < a.f * 3; ++i) greatest = std::max(greatest, uint32_t(a.faces[i]));
        require(a.f == 0 || greatest < a.v, "rasterize: faces name a vertex that does not exist.");
        a.triangle = triangle.data();
        a.barycentrics = barycentrics.data();
        a.depth = depth.data();
        AVATAR3D_DISPATCH(rasterize_forward<T>(a, threads));
    });
    m.def("rasterize_backward", [](In points, Ids faces, int height, int width, Ids triangle, In barycentrics, In depth,
                                   In grad_barycentrics, In grad_depth, Out grad_points, int threads) {
        const auto a = make_args<T, nb::device::cpu>(points, faces, height, width, 0, false);
        const RasterGrads<T> g{triangle.data(),          barycentrics.data(), depth.data(),
                               grad_barycentrics.data(), grad_depth.data(),   grad_points.data()};
        AVATAR3D_DISPATCH(rasterize_backward<T>(a, g, threads));
    });
}

#ifdef AVATAR3D_WITH_CUDA
template <typename T>
void bind_cuda(nb::module_& m) {
    using In = CudaArray<const T>;
    using Out = CudaArray<T>;
    using Ids = CudaArray<const int32_t>;
    m.def("rasterize_forward_cuda",
          [](In points, Ids faces, int height, int width, double near, bool cull, CudaArray<int32_t> triangle,
             Out barycentrics, Out depth, CudaArray<int64_t> keys, CudaArray<int32_t> large, uint64_t stream) {
              auto a = make_args<T, nb::device::cuda>(points, faces, height, width, near, cull);
              require(int64_t(keys.size()) >= a.b * height * width && int64_t(large.size()) >= a.b * a.f + 1,
                      "rasterize: scratch is too small");
              a.triangle = triangle.data();
              a.barycentrics = barycentrics.data();
              a.depth = depth.data();
              cuda::rasterize_forward<T>(a, reinterpret_cast<uint64_t*>(keys.data()), large.data(), stream);
          });
    m.def("rasterize_backward_cuda",
          [](In points, Ids faces, int height, int width, Ids triangle, In barycentrics, In depth, In grad_barycentrics,
             In grad_depth, Out grad_points, uint64_t stream) {
              const auto a = make_args<T, nb::device::cuda>(points, faces, height, width, 0, false);
              const RasterGrads<T> g{triangle.data(),          barycentrics.data(), depth.data(),
                                     grad_barycentrics.data(), grad_depth.data(),   grad_points.data()};
              cuda::rasterize_backward<T>(a, g, stream);
          });
}
#endif

}  // namespace

void bind_rasterize(nb::module_& m) {
    bind_cpu<float>(m);
    bind_cpu<double>(m);
#ifdef AVATAR3D_WITH_CUDA
    bind_cuda<float>(m);
    bind_cuda<double>(m);
#endif
}

}  // namespace avatar3d
