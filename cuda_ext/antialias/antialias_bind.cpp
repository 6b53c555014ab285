#include "antialias/antialias.h"
#include "common/bind.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct Antialias {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;
    using Ids = Array<const int32_t, Device>;
    using Bytes = Array<uint8_t, Device>;

    static AntialiasArgs<T> args(const In& image, const Ids& triangle, const In& depth, const In& points,
                                 const Ids& faces, const Ids& neighbours, double near, const Bytes& facing) {
        require(image.ndim() == 4 && triangle.ndim() == 3 && depth.ndim() == 3 && points.ndim() == 3,
                "antialias: image [b,h,w,c], triangle [b,h,w], depth [b,h,w], points [b,v,3]");
        require(faces.ndim() == 2 && faces.shape(1) == 3 && neighbours.size() == faces.size(),
                "antialias: faces, neighbours [f,3]");
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

    static void check(const AntialiasArgs<T>& a) {
        bool ok = true;
        for (int64_t i = 0; i < a.f * 3; ++i) ok &= a.faces[i] >= 0 && a.faces[i] < a.v && a.neighbours[i] < a.f;
        require(ok, "antialias: faces or neighbours name something that does not exist.");
        for (int64_t i = 0; i < a.b * a.height * a.width; ++i) ok &= a.triangle[i] < a.f;
        require(ok, "antialias: triangle names a face that does not exist.");
    }

    static void bind(nb::module_& m) {
        define<Device>(m, "antialias_forward", [](In image, Ids triangle, In depth, In points, Ids faces,
                                                  Ids neighbours, double near, Bytes facing, Out out,
                                                  Queue<Device> queue) {
            auto a = args(image, triangle, depth, points, faces, neighbours, near, facing);
            if constexpr (on_cpu<Device>) check(a);
            a.out = out.data();
            AVATAR3D_RUN(Device, antialias_forward<T>(a, queue));
        });
        define<Device>(m, "antialias_backward", [](In image, Ids triangle, In depth, In points, Ids faces,
                                                   Ids neighbours, double near, Bytes facing, In grad_out,
                                                   Out grad_image, Out grad_points, Queue<Device> queue) {
            const auto a = args(image, triangle, depth, points, faces, neighbours, near, facing);
            const AntialiasGrads<T> g{grad_out.data(), grad_image.data(), grad_points.data()};
            AVATAR3D_RUN(Device, antialias_backward<T>(a, g, queue));
        });
    }
};

}  // namespace

void bind_antialias(nb::module_& m) { bind_everywhere<Antialias>(m); }

}  // namespace avatar3d
