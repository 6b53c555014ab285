#include "antialias/antialias.h"
#include "common/array.h"
#include "common/bindings.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
AntialiasArgs<T> make_args(const Array<const T, Device>& image, const Array<const int32_t, Device>& triangle,
                           const Array<const T, Device>& depth, const Array<const T, Device>& points,
                           const Array<const int32_t, Device>& faces, const Array<const int32_t, Device>& neighbours,
                           double near, const Array<uint8_t, Device>& facing) {
    require(image.ndim() == 4 && triangle.ndim() == 3 && depth.ndim() == 3 && points.ndim() == 3,
            "antialias: image [b,h,w,c], triangle [b,h,w], depth [b,h,w], points [b,v,3]");
    require(faces.ndim() == 2 && faces.shape(1) == 3 && neighbours.size() == faces.size(), "antialias: faces, neighbours [f,3]");
    AntialiasArgs<T> a{};
    a.image = image.data();
    a.triangle = triangle.data();
    a.depth = depth.data();
    a.points = points.data();
    a.faces = faces.data();
    a.neighbours = neighbours.data();
    a.b = int64_t(image.shape(0));
    a.height = int32_t(image.shape(1));
    a.width = int32_t(image.shape(2));
    a.c = int64_t(image.shape(3));
    a.v = int64_t(points.shape(1));
    a.f = int64_t(faces.shape(0));
    a.facing = facing.data();
    a.near = T(near);
    const int64_t pixels = a.b * a.height * a.width;
    require(int64_t(triangle.size()) == pixels && int64_t(depth.size()) == pixels && int64_t(points.shape(0)) == a.b,
            "antialias: sizes disagree");
    require(int64_t(facing.size()) >= a.b * a.f, "antialias: scratch is too small");
    return a;
}

template <typename T>
void check(const AntialiasArgs<T>& a) {
    bool ok = true;
    for (int64_t i = 0; i < a.f * 3; ++i) ok &= a.faces[i] >= 0 && a.faces[i] < a.v && a.neighbours[i] < a.f;
    require(ok, "antialias: faces or neighbours name something that does not exist.");
    for (int64_t i = 0; i < a.b * a.height * a.width; ++i) ok &= a.triangle[i] < a.f;
    require(ok, "antialias: triangle names a face that does not exist.");
}

template <typename T>
void bind_cpu(nb::module_& m) {
    using In = CpuArray<const T>;
    using Out = CpuArray<T>;
    using Ids = CpuArray<const int32_t>;
    using Bytes = CpuArray<uint8_t>;
    m.def("antialias_forward", [](In image, Ids triangle, In depth, In points, Ids faces, Ids neighbours, double near,
                                  Bytes facing, Out out, int threads) {
        auto a = make_args<T, nb::device::cpu>(image, triangle, depth, points, faces, neighbours, near, facing);
        check(a);
        a.out = out.data();
        AVATAR3D_DISPATCH(antialias_forward<T>(a, threads));
    });
    m.def("antialias_backward", [](In image, Ids triangle, In depth, In points, Ids faces, Ids neighbours, double near,
                                   Bytes facing, In grad_out, Out grad_image, Out grad_points, int threads) {
        const auto a = make_args<T, nb::device::cpu>(image, triangle, depth, points, faces, neighbours, near, facing);
        const AntialiasGrads<T> g{grad_out.data(), grad_image.data(), grad_points.data()};
        AVATAR3D_DISPATCH(antialias_backward<T>(a, g, threads));
    });
}

#ifdef AVATAR3D_WITH_CUDA
template <typename T>
void bind_cuda(nb::module_& m) {
    using In = CudaArray<const T>;
    using Out = CudaArray<T>;
    using Ids = CudaArray<const int32_t>;
    using Bytes = CudaArray<uint8_t>;
    m.def("antialias_forward_cuda", [](In image, Ids triangle, In depth, In points, Ids faces, Ids neighbours,
                                       double near, Bytes facing, Out out, uint64_t stream) {
        auto a = make_args<T, nb::device::cuda>(image, triangle, depth, points, faces, neighbours, near, facing);
        a.out = out.data();
        cuda::antialias_forward<T>(a, stream);
    });
    m.def("antialias_backward_cuda", [](In image, Ids triangle, In depth, In points, Ids faces, Ids neighbours,
                                        double near, Bytes facing, In grad_out, Out grad_image, Out grad_points,
                                        uint64_t stream) {
        const auto a = make_args<T, nb::device::cuda>(image, triangle, depth, points, faces, neighbours, near, facing);
        const AntialiasGrads<T> g{grad_out.data(), grad_image.data(), grad_points.data()};
        cuda::antialias_backward<T>(a, g, stream);
    });
}
#endif

}  // namespace

void bind_antialias(nb::module_& m) {
    bind_cpu<float>(m);
    bind_cpu<double>(m);
#ifdef AVATAR3D_WITH_CUDA
    bind_cuda<float>(m);
    bind_cuda<double>(m);
#endif
}

}  // namespace avatar3d
