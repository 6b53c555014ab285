// A linear head model in one: rest = template + basis coefficients, joints and their maps, linear blend skinning.
// The CPU alone: one pass over the basis each way, which is what a small batch costs; on CUDA the three parts run.
#pragma once
#include <cstdint>

#include "common/isa.h"

namespace avatar3d {

// The constants of a model lie in one array, so that little crosses from Python (ops/pose_mesh.py packs it):
//   basis [panels, rows, 48], template [panels, 48], joint template [j, 3], joint basis [k, j, 3]
// A panel is 16 vertices; `rows` are the k shapes, then 9 (j - 1) pose correctives if there are any, then zeros up to a
// multiple of 4; panels come in fours (64 vertices), the last ones filled up with zeros.
template <typename T>
struct PoseMeshArgs {
    const T* coefficients;   // [b, k]
    const T* rotvecs;        // [b, j, 3]
    const int32_t* parents;  // [j]; -1 for a root; parents come before children
    const T* weights;        // [v, j]
    const T* packed;
    int64_t b, v, j, k;
    bool correctives;
    T* rest;   // [b, v, 3] before skinning
    T* state;  // rest joints [b, j, 3], rotations [b, j, 3, 3], T_posed_rest [b, j, 4, 4]
    T* vertices;  // [b, v, 3]
    T* joints;    // [b, j, 3]

    int64_t groups() const { return (v + 63) / 64; }
    int64_t shapes() const { return k + (correctives ? 9 * (j - 1) : 0); }
    int64_t rows() const { return (shapes() + 3) / 4 * 4; }
    const T* template_panels() const { return packed + groups() * 4 * rows() * 48; }
    const T* joint_template() const { return template_panels() + groups() * 4 * 48; }
    const T* joint_basis() const { return joint_template() + j * 3; }
    int64_t packed_size() const { return groups() * 4 * (rows() + 1) * 48 + (k + 1) * j * 3; }
    T* rest_joints() const { return state; }
    T* R() const { return state + b * j * 3; }
    T* T_posed_rest() const { return state + b * j * 12; }
};

template <typename T>
struct PoseMeshGrads {
    const T* grad_vertices;  // [b, v, 3]; any of the three may be null
    const T* grad_joints;    // [b, j, 3]
    const T* grad_rest;      // [b, v, 3]
    T* grad_coefficients;    // [b, k], or null if nobody asked
    T* grad_rotvecs;         // [b, j, 3]
};

AVATAR3D_DECLARE_CPU(template <typename T> void pose_mesh_forward(const PoseMeshArgs<T>& args, int threads);
                     template <typename T> void pose_mesh_backward(const PoseMeshArgs<T>& args,
                                                                   const PoseMeshGrads<T>& grads, int threads);)

}  // namespace avatar3d
