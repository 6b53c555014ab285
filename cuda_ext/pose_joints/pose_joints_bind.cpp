#include "common/bind.h"
#include "pose_joints/pose_joints.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct PoseJoints {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;
    using Ids = Array<const int32_t, Device>;

    template <typename M>
    static PoseArgs<T> args(const In& rest, const In& rotvecs, const Ids& parents, const M& R, const M& maps) {
        PoseArgs<T> a{rest.data(), rotvecs.data(), parents.data(), int64_t(rest.shape(0)), int64_t(rest.shape(1)),
                      const_cast<T*>(R.data()), const_cast<T*>(maps.data())};
        const size_t joints = size_t(a.b * a.j);
        require(rest.size() == joints * 3 && rotvecs.size() == joints * 3 && parents.size() == size_t(a.j) &&
                    R.size() == joints * 9 && maps.size() == joints * 16,
                "pose_joints: sizes disagree");
        return a;
    }

    static void forward(In rest, In rotvecs, Ids parents, Out R, Out maps, Queue<Device> queue) {
        const auto a = args(rest, rotvecs, parents, R, maps);
        AVATAR3D_RUN(Device, pose_joints_forward<T>(a, queue));
    }

    static void backward(In rest, In rotvecs, Ids parents, In R, In maps, In grad_R, In grad_maps, Out scratch,
                         Out grad_rest, Out grad_rotvecs, Queue<Device> queue) {
        const auto a = args(rest, rotvecs, parents, R, maps);
        require(scratch.size() >= size_t(a.b * a.j * 12), "pose_joints: scratch is too small");
        const PoseGrads<T> g{grad_R.data(), grad_maps.data(), scratch.data(), grad_rest.data(), grad_rotvecs.data()};
        AVATAR3D_RUN(Device, pose_joints_backward<T>(a, g, queue));
    }

    static void bind(nb::module_& m) {
        define<Device>(m, "pose_joints_forward", forward);
        define<Device>(m, "pose_joints_backward", backward);
    }
};

}  // namespace

void bind_pose_joints(nb::module_& m) { bind_everywhere<PoseJoints>(m); }

}  // namespace avatar3d
