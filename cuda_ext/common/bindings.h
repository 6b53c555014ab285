// One line per operation: its binder is defined in <op>/<op>_bind.cpp and called by module.cpp.
#pragma once
#include <nanobind/nanobind.h>

#define AVATAR3D_OPERATIONS(X) \
    X(skin)                    \
    X(rasterize)               \
    X(interpolate)             \
    X(sample_texture)          \
    X(antialias)               \
    X(screen_derivatives)      \
    X(landmark_equations)      \
    X(solve_normal_equations)  \
    X(solve_chain)             \
    X(project_splats)          \
    X(ssim)                    \
    X(blend_splats)            \
    X(rig_splats)              \
    X(pose_joints)              \
    X(nearest_on_mesh)

namespace avatar3d {
#define AVATAR3D_DECLARE_BINDER(op) void bind_##op(nanobind::module_& m);
AVATAR3D_OPERATIONS(AVATAR3D_DECLARE_BINDER)
#undef AVATAR3D_DECLARE_BINDER
}  // namespace avatar3d
