#include "common/bind.h"
#include "skin/skin.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct Skin {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;

    static SkinArgs<T> args(const In& points, const In& weights, const In& maps) {
        require(points.ndim() == 3 && weights.ndim() == 2 && maps.ndim() == 4,
                "skin: points [b,v,3], weights [v,j], maps [b,j,4,4]");
        SkinArgs<T> a{points.data(), weights.data(), maps.data(), int64_t(points.shape(0)), int64_t(points.shape(1)),
                      int64_t(weights.shape(1)), nullptr};
        require(int64_t(weights.shape(0)) == a.v && int64_t(maps.shape(0)) == a.b && int64_t(maps.shape(1)) == a.j,
                "skin: sizes disagree");
        return a;
    }

    static void bind(nb::module_& m) {
        define<Device>(m, "skin_forward", [](In points, In weights, In maps, Out out, Queue<Device> queue) {
            auto a = args(points, weights, maps);
            a.out = out.data();
            AVATAR3D_RUN(Device, skin_forward<T>(a, queue));
        });
        define<Device>(m, "skin_backward", [](In points, In weights, In maps, In grad_out, Out grad_points,
                                              Out grad_weights, Out grad_maps, Queue<Device> queue) {
            const auto a = args(points, weights, maps);
            const SkinGrads<T> g{grad_out.data(), grad_points.data(), data_or_null(grad_weights), grad_maps.data()};
            AVATAR3D_RUN(Device, skin_backward<T>(a, g, queue));
        });
    }
};

}  // namespace

void bind_skin(nb::module_& m) { bind_everywhere<Skin>(m); }

}  // namespace avatar3d
