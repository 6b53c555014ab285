#include "common/bind.h"
#include "project_splats/project_splats.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct ProjectSplats {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;

    static ProjectArgs<T> args(const In& means, const In& quats, const In& scales, const In& opacities, const In& K,
                               const In& T_camera_world, const In& sh, int width, int height, double near,
                               bool antialiased) {
        require(means.ndim() == 2 && K.ndim() == 3 && sh.ndim() == 3, "project_splats: means [n,3], K [b,3,3], sh [n,k,3]");
        ProjectArgs<T> a{};
        a.n = int64_t(means.shape(0));
        a.b = int64_t(K.shape(0));
        require(int64_t(means.size()) == a.n * 3 && int64_t(quats.size()) == a.n * 4 && int64_t(scales.size()) == a.n * 3 &&
                    int64_t(opacities.size()) == a.n && int64_t(K.size()) == a.b * 9 &&
                    int64_t(T_camera_world.size()) == a.b * 16,
                "project_splats: sizes disagree");
        a.means = means.data();
        a.quats = quats.data();
        a.scales = scales.data();
        a.opacities = opacities.data();
        a.K = K.data();
        a.T_camera_world = T_camera_world.data();
        a.sh = sh.data();
        const int k = a.coefficients = int(sh.shape(1));
        require(k == 0 || k == 1 || k == 4 || k == 9 || k == 16, "project_splats: 1, 4, 9 or 16 coefficients");
        require(int64_t(sh.size()) == a.n * k * 3, "project_splats: sh [n,k,3]");
        a.width = width;
        a.height = height;
        a.near = T(near);
        a.antialiased = antialiased;
        return a;
    }

    static void forward(In means, In quats, In scales, In opacities, In K, In T_camera_world, In sh, int width, int height,
                        double near, bool antialiased, bool with_normals, Out pixels, Out conics, Out out_opacities,
                        Out depths, Out colors, Out normals, Queue<Device> queue) {
        auto a = args(means, quats, scales, opacities, K, T_camera_world, sh, width, height, near, antialiased);
        const size_t images = size_t(a.b) * a.n;
        require(pixels.size() == images * 2 && conics.size() == images * 3 && out_opacities.size() == images &&
                    depths.size() == images && colors.size() == (a.coefficients ? images * 3 : 0) &&
                    normals.size() == (with_normals ? images * 3 : 0),
                "project_splats: sizes of the outputs");
        a.pixels = pixels.data();
        a.conics = conics.data();
        a.out_opacities = out_opacities.data();
        a.depths = depths.data();
        a.colors = colors.data();
        a.normals = data_or_null(normals);
        AVATAR3D_RUN(Device, project_splats_forward<T>(a, queue));
    }

    // Empty gradients of sh, or of K and T_camera_world, are not computed; the scratch is CUDA's, for the latter.
    static void backward(In means, In quats, In scales, In opacities, In K, In T_camera_world, In sh, int width, int height,
                         double near, bool antialiased, In g_pixels, In g_conics, In g_opacities, In g_depths, In g_colors,
                         In g_normals, Out d_means, Out d_quats, Out d_scales, Out d_opacities, Out d_sh, Out d_K, Out d_T,
                         Out scratch, Queue<Device> queue) {
        const auto a = args(means, quats, scales, opacities, K, T_camera_world, sh, width, height, near, antialiased);
        const ProjectGrads<T> g{g_pixels.data(),    g_conics.data(),     g_opacities.data(), g_depths.data(),
                                g_colors.data(),    data_or_null(g_normals), d_means.data(), d_quats.data(),
                                d_scales.data(),    d_opacities.data(),  data_or_null(d_sh), data_or_null(d_K),
                                data_or_null(d_T)};
        if constexpr (on_cpu<Device>) {
            AVATAR3D_DISPATCH(project_splats_backward<T>(a, g, queue));
        } else {
            require(!g.K || int64_t(scratch.size()) >= cuda::project_splats_scratch(a.b, a.n),
                    "project_splats: scratch is too small");
            cuda::project_splats_backward<T>(a, g, scratch.data(), queue);
        }
    }

    static void bind(nb::module_& m) {
        define<Device>(m, "project_splats_forward", forward);
        define<Device>(m, "project_splats_backward", backward);
    }
};

}  // namespace

void bind_project_splats(nb::module_& m) {
    bind_everywhere<ProjectSplats>(m);
#ifdef AVATAR3D_WITH_CUDA
    m.def("project_splats_scratch", &cuda::project_splats_scratch);
#endif
}

}  // namespace avatar3d
