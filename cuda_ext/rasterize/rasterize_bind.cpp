#include <algorithm>

#include "common/bind.h"
#include "rasterize/rasterize.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct Rasterize {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;
    using Ids = Array<const int32_t, Device>;
    using OutIds = Array<int32_t, Device>;

    static RasterArgs<T> args(const In& points, const Ids& faces, int height, int width, double near, bool cull) {
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

    // The scratch is CUDA's: a key per pixel, and a list of large triangles.
    static void forward(In points, Ids faces, int height, int width, double near, bool cull, OutIds triangle,
                        Out barycentrics, Out depth, Array<int64_t, Device> keys, OutIds large, Queue<Device> queue) {
        auto a = args(points, faces, height, width, near, cull);
        a.triangle = triangle.data();
        a.barycentrics = barycentrics.data();
        a.depth = depth.data();
        if constexpr (on_cpu<Device>) {
            uint32_t greatest = 0;  // a negative index is the greatest of all
            for (int64_t i = 0; i < a.f * 3; ++i) greatest = std::max(greatest, uint32_t(a.faces[i]));
            require(a.f == 0 || greatest < a.v, "rasterize: faces name a vertex that does not exist.");
            AVATAR3D_DISPATCH(rasterize_forward<T>(a, queue));
        } else {
            require(int64_t(keys.size()) >= a.b * height * width && int64_t(large.size()) >= a.b * a.f + 1,
                    "rasterize: scratch is too small");
            cuda::rasterize_forward<T>(a, reinterpret_cast<uint64_t*>(keys.data()), large.data(), queue);
        }
    }

    static void backward(In points, Ids faces, int height, int width, Ids triangle, In barycentrics, In depth,
                         In grad_barycentrics, In grad_depth, Out grad_points, Queue<Device> queue) {
        const auto a = args(points, faces, height, width, 0, false);
        const RasterGrads<T> g{triangle.data(),          barycentrics.data(), depth.data(),
                               grad_barycentrics.data(), grad_depth.data(),   grad_points.data()};
        AVATAR3D_RUN(Device, rasterize_backward<T>(a, g, queue));
    }

    static void bind(nb::module_& m) {
        define<Device>(m, "rasterize_forward", forward);
        define<Device>(m, "rasterize_backward", backward);
    }
};

}  // namespace

void bind_rasterize(nb::module_& m) { bind_everywhere<Rasterize>(m); }

}  // namespace avatar3d
