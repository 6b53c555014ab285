#include "common/bind.h"
#include "interpolate/interpolate.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct Interpolate {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;
    using Ids = Array<const int32_t, Device>;

    static InterpolateArgs<T> args(const In& attributes, const Ids& corners, const Ids& triangle,
                                   const In& barycentrics) {
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
        require(a.shared || int64_t(attributes.shape(0)) == a.b,
                "interpolate: attributes and triangle differ in batch size");
        return a;
    }

    static void check(const InterpolateArgs<T>& a) {
        for (int64_t i = 0; i < a.f * 3; ++i)
            require(a.corners[i] >= 0 && a.corners[i] < a.u,
                    "interpolate: corners name an attribute that does not exist.");
        bool ok = true;
        for (int64_t i = 0; i < a.b * a.height * a.width; ++i) ok &= a.triangle[i] < a.f;
        require(ok, "interpolate: triangle names a face that does not exist.");
    }

    static void bind(nb::module_& m) {
        define<Device>(m, "interpolate_forward", [](In attributes, Ids corners, Ids triangle, In barycentrics, Out out,
                                                    Queue<Device> queue) {
            auto a = args(attributes, corners, triangle, barycentrics);
            if constexpr (on_cpu<Device>) check(a);
            a.out = out.data();
            AVATAR3D_RUN(Device, interpolate_forward<T>(a, queue));
        });
        define<Device>(m, "interpolate_backward", [](In attributes, Ids corners, Ids triangle, In barycentrics,
                                                     In grad_out, Out grad_attributes, Out grad_barycentrics,
                                                     Queue<Device> queue) {
            const auto a = args(attributes, corners, triangle, barycentrics);
            const InterpolateGrads<T> g{grad_out.data(), data_or_null(grad_attributes), grad_barycentrics.data()};
            AVATAR3D_RUN(Device, interpolate_backward<T>(a, g, queue));
        });
    }
};

}  // namespace

void bind_interpolate(nb::module_& m) { bind_everywhere<Interpolate>(m); }

}  // namespace avatar3d
