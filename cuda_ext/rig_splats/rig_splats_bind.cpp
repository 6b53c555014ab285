#include <algorithm>

#include "common/bind.h"
#include "rig_splats/rig_splats.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct RigSplats {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;
    using Ids = Array<const int32_t, Device>;
    using Order = Array<const int64_t, Device>;

    static RigSplatsArgs<T> args(const In& vertices, const Ids& faces, const Ids& face, const In& barycentrics,
                                 const In& offsets, const In& quats, const In& scales) {
        require(vertices.ndim() == 3 && vertices.shape(2) == 3 && faces.ndim() == 2 && faces.shape(1) == 3,
                "rig_splats: vertices [b,v,3], faces [f,3]");
        RigSplatsArgs<T> a{};
        a.vertices = vertices.data();
        a.faces = faces.data();
        a.face = face.data();
        a.barycentrics = barycentrics.data();
        a.offsets = offsets.data();
        a.quats = quats.data();
        a.scales = scales.data();
        a.b = int64_t(vertices.shape(0));
        a.v = int64_t(vertices.shape(1));
        a.f = int64_t(faces.shape(0));
        a.n = int64_t(face.size());
        require(int64_t(barycentrics.size()) == a.n * 3 && int64_t(offsets.size()) == a.n * 3 &&
                    int64_t(quats.size()) == a.n * 4 && int64_t(scales.size()) == a.n * 3,
                "rig_splats: sizes disagree");
        if constexpr (on_cpu<Device>) {
            uint32_t vertex = 0, triangle = 0;  // a negative index is the greatest of all
            for (int64_t i = 0; i < a.f * 3; ++i) vertex = std::max(vertex, uint32_t(a.faces[i]));
            for (int64_t i = 0; i < a.n; ++i) triangle = std::max(triangle, uint32_t(a.face[i]));
            require(a.f == 0 || vertex < a.v, "rig_splats: faces name a vertex that does not exist.");
            require(a.n == 0 || triangle < a.f, "rig_splats: a splat's face does not exist.");
        }
        return a;
    }

    static void forward(In vertices, Ids faces, Ids face, In barycentrics, In offsets, In quats, In scales, Out out_means,
                        Out out_quats, Out out_scales, Queue<Device> queue) {
        auto a = args(vertices, faces, face, barycentrics, offsets, quats, scales);
        a.out_means = out_means.data();
        a.out_quats = out_quats.data();
        a.out_scales = out_scales.data();
        AVATAR3D_RUN(Device, rig_splats_forward<T>(a, queue));
    }

    // Empty gradients of the vertices are not computed. Records, order and starts are CUDA's, for these.
    static void backward(In vertices, Ids faces, Ids face, In barycentrics, In offsets, In quats, In scales, In g_means,
                         In g_quats, In g_scales, Out d_barycentrics, Out d_offsets, Out d_quats, Out d_scales,
                         Out d_vertices, Out records, Order order, Order starts, Queue<Device> queue) {
        const auto a = args(vertices, faces, face, barycentrics, offsets, quats, scales);
        const RigSplatsGrads<T> g{g_means.data(), g_quats.data(), g_scales.data(), d_barycentrics.data(),
                                  d_offsets.data(), d_quats.data(), d_scales.data(), data_or_null(d_vertices)};
        if constexpr (on_cpu<Device>) {
            AVATAR3D_DISPATCH(rig_splats_backward<T>(a, g, queue));
        } else {
            require(!g.vertices || (int64_t(records.size()) == a.b * a.n * 9 && int64_t(order.size()) == a.n * 3 &&
                                    int64_t(starts.size()) == a.v + 1),
                    "rig_splats: sizes of the scratch");
            cuda::rig_splats_backward<T>(a, g, records.data(), order.data(), starts.data(), queue);
        }
    }

    static void bind(nb::module_& m) {
        define<Device>(m, "rig_splats_forward", forward);
        define<Device>(m, "rig_splats_backward", backward);
    }
};

}  // namespace

void bind_rig_splats(nb::module_& m) { bind_everywhere<RigSplats>(m); }

}  // namespace avatar3d
