#include "nearest_on_mesh/nearest_on_mesh.h"

#include <algorithm>

#include "common/bind.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct NearestOnMesh {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;
    using Ids = Array<const int32_t, Device>;
    using OutIds = Array<int32_t, Device>;

    template <typename Numbers, typename Integers>
    static void check_tree(int64_t b, int64_t f, const Numbers& boxes, const Numbers& leaves, const Integers& ids) {
        require(f > 0, "nearest_on_mesh: no faces");
        const TreeShape shape(f);
        require(int64_t(boxes.size()) == b * shape.nodes * 6 * kTreeWidth &&
                    int64_t(leaves.size()) == b * shape.leaves * kFaceNumbers * kTreeWidth &&
                    int64_t(ids.size()) == b * shape.leaves * kTreeWidth,
                "nearest_on_mesh: the tree was made for another mesh");
    }

    static void check_faces(const Ids& faces, int64_t vertices) {
        uint32_t greatest = 0;  // a negative index is the greatest of all
        for (size_t i = 0; i < faces.size(); ++i) greatest = std::max(greatest, uint32_t(faces.data()[i]));
        require(greatest < vertices, "nearest_on_mesh: faces name a vertex that does not exist.");
    }

    static void tree(In vertices, Ids faces, Out boxes, Out leaves, OutIds ids, Queue<Device> queue) {
        const int64_t b = vertices.shape(0), v = vertices.shape(1), f = faces.shape(0);
        check_tree(b, f, boxes, leaves, ids);
        check_faces(faces, v);
        AVATAR3D_DISPATCH(face_tree<T>(vertices.data(), faces.data(), b, v, f, boxes.data(), leaves.data(), ids.data(), queue));
    }

    static void forward(In points, In vertices, Ids faces, In boxes, In leaves, Ids ids, Out nearest, OutIds face,
                        Out barycentrics, Out distance, Queue<Device> queue) {
        require(points.ndim() == 3 && vertices.ndim() == 3 && faces.ndim() == 2 && points.shape(0) == vertices.shape(0),
                "nearest_on_mesh: points [b,n,3], vertices [b,v,3], faces [f,3]");
        NearestArgs<T> a{points.data(), vertices.data(), faces.data()};
        a.b = int64_t(points.shape(0)), a.n = int64_t(points.shape(1));
        a.v = int64_t(vertices.shape(1)), a.f = int64_t(faces.shape(0));
        check_tree(a.b, a.f, boxes, leaves, ids);
        if constexpr (on_cpu<Device>) check_faces(faces, a.v);
        a.tree = {boxes.data(), leaves.data(), ids.data()};
        a.nearest = nearest.data(), a.face = face.data();
        a.barycentrics = barycentrics.data(), a.distance = distance.data();
        AVATAR3D_RUN(Device, nearest_on_mesh_forward<T>(a, queue));
    }

    static void bind(nb::module_& m) {
        if constexpr (on_cpu<Device>) define<Device>(m, "face_tree", tree);
        define<Device>(m, "nearest_on_mesh_forward", forward);
    }
};

}  // namespace

void bind_nearest_on_mesh(nb::module_& m) { bind_everywhere<NearestOnMesh>(m); }

}  // namespace avatar3d
