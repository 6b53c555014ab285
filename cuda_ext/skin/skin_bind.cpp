#include "common/bind.h"
#include "skin/pose_mesh.h"
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

template <typename T>
struct PoseMesh {
    using In = CpuArray<const T>;
    using Out = CpuArray<T>;

    static PoseMeshArgs<T> args(const In& coefficients, const In& rotvecs, const CpuArray<const int32_t>& parents,
                                const In& weights, const In& packed, bool correctives, T* rest, const Out& state) {
        require(coefficients.ndim() == 2 && rotvecs.ndim() == 3 && weights.ndim() == 2,
                "pose_mesh: coefficients [b,k], rotvecs [b,j,3], weights [v,j]");
        PoseMeshArgs<T> a{coefficients.data(), rotvecs.data(), parents.data(), weights.data(), packed.data(),
                          int64_t(rotvecs.shape(0)), int64_t(weights.shape(0)), int64_t(weights.shape(1)),
                          int64_t(coefficients.shape(1)), correctives, rest, state.data(), nullptr, nullptr};
        require(int64_t(coefficients.shape(0)) == a.b && int64_t(rotvecs.shape(1)) == a.j &&
                    int64_t(parents.size()) == a.j && int64_t(packed.size()) == a.packed_size() &&
                    int64_t(state.size()) == a.b * a.j * 28,
                "pose_mesh: sizes disagree");
        return a;
    }

    static void bind(nb::module_& m) {
        m.def("pose_mesh_forward", [](In coefficients, In rotvecs, CpuArray<const int32_t> parents, In weights, In packed,
                                      bool correctives, Out vertices, Out joints, Out rest, Out state, int threads) {
            auto a = args(coefficients, rotvecs, parents, weights, packed, correctives, rest.data(), state);
            a.vertices = vertices.data(), a.joints = joints.data();
            AVATAR3D_DISPATCH(pose_mesh_forward<T>(a, threads));
        });
        m.def("pose_mesh_backward", [](In coefficients, In rotvecs, CpuArray<const int32_t> parents, In weights, In packed,
                                       bool correctives, Out rest, Out state, In grad_vertices, In grad_joints,
                                       In grad_rest, Out grad_coefficients, Out grad_rotvecs, int threads) {
            const auto a = args(coefficients, rotvecs, parents, weights, packed, correctives, rest.data(), state);
            const PoseMeshGrads<T> g{data_or_null(grad_vertices), data_or_null(grad_joints), data_or_null(grad_rest),
                                     data_or_null(grad_coefficients), grad_rotvecs.data()};
            AVATAR3D_DISPATCH(pose_mesh_backward<T>(a, g, threads));
        });
    }
};

}  // namespace

void bind_skin(nb::module_& m) {
    bind_everywhere<Skin>(m);
    PoseMesh<float>::bind(m);
    PoseMesh<double>::bind(m);
}

}  // namespace avatar3d
