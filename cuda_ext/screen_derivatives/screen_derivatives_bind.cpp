#include "common/bind.h"
#include "screen_derivatives/screen_derivatives.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct ScreenDerivatives {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;
    using Ids = Array<const int32_t, Device>;

    static void forward(In points, Ids faces, Ids triangle, In barycentrics, In depth, Out out, Queue<Device> queue) {
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
        require(int64_t(triangle.shape(0)) == a.b && int64_t(barycentrics.size()) == n * 3 &&
                    int64_t(depth.size()) == n && int64_t(out.size()) == n * 6,
                "screen_derivatives: sizes disagree");
        if constexpr (on_cpu<Device>) {
            bool ok = true;
            for (int64_t i = 0; i < a.f * 3; ++i) ok &= a.faces[i] >= 0 && a.faces[i] < a.v;
            for (int64_t i = 0; i < n; ++i) ok &= a.triangle[i] < a.f;
            require(ok, "screen_derivatives: faces or triangle name something that does not exist.");
        }
        AVATAR3D_RUN(Device, screen_derivatives_forward<T>(a, queue));
    }

    static void bind(nb::module_& m) { define<Device>(m, "screen_derivatives_forward", forward); }
};

}  // namespace

void bind_screen_derivatives(nb::module_& m) { bind_everywhere<ScreenDerivatives>(m); }

}  // namespace avatar3d
