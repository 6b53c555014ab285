// Linear blend skinning: out = sum_j w_j (R_j p + t_j). One point at a time, shared by C++ and CUDA.
#pragma once
#include "common/hd.h"
#include "common/isa.h"

namespace avatar3d {

template <typename T>
struct SkinArgs {
    const T* points;    // [b, v, 3]
    const T* weights;   // [v, j]
    const T* T_posed_rest;  // [b, j, 4, 4]; the last row is taken as 0 0 0 1
    int64_t b, v, j;
    T* out;  // [b, v, 3]
};

template <typename T>
struct SkinGrads {
    const T* grad_out;   // [b, v, 3]
    T* grad_points;      // [b, v, 3]
    T* grad_weights;     // [v, j]
    T* grad_T;           // [b, j, 4, 4], zeroed by the caller
};

// Blends the joints' maps for one point: M = sum_j w_j [R_j | t_j], 12 numbers.
template <typename T>
AVATAR3D_HD void blend_maps(const SkinArgs<T>& a, int64_t b, int64_t v, T* M) {
    for (int i = 0; i < 12; ++i) M[i] = T(0);
    const T* w = a.weights + v * a.j;
    const T* maps = a.T_posed_rest + b * a.j * 16;
    for (int64_t j = 0; j < a.j; ++j) {
        if (w[j] == T(0)) continue;
        for (int i = 0; i < 12; ++i) M[i] += w[j] * maps[j * 16 + i];
    }
}

template <typename T>
AVATAR3D_HD void skin_point(const SkinArgs<T>& a, int64_t b, int64_t v, T* out) {
    T M[12];
    blend_maps(a, b, v, M);
    const T* p = a.points + (b * a.v + v) * 3;
    for (int r = 0; r < 3; ++r) out[r] = M[r * 4] * p[0] + M[r * 4 + 1] * p[1] + M[r * 4 + 2] * p[2] + M[r * 4 + 3];
}

// Gradient of one point with respect to its rest position.
template <typename T>
AVATAR3D_HD void skin_point_grad(const SkinArgs<T>& a, int64_t b, int64_t v, const T* g, T* grad_point) {
    T M[12];
    blend_maps(a, b, v, M);
    for (int c = 0; c < 3; ++c) grad_point[c] = M[c] * g[0] + M[4 + c] * g[1] + M[8 + c] * g[2];
}

// d out / d w_j, dotted with g: g . (R_j p + t_j).
template <typename T>
AVATAR3D_HD T skin_weight_grad(const SkinArgs<T>& a, int64_t b, int64_t v, int64_t j, const T* g) {
    const T* p = a.points + (b * a.v + v) * 3;
    const T* m = a.T_posed_rest + (b * a.j + j) * 16;
    T sum = T(0);
    for (int r = 0; r < 3; ++r) sum += g[r] * (m[r * 4] * p[0] + m[r * 4 + 1] * p[1] + m[r * 4 + 2] * p[2] + m[r * 4 + 3]);
    return sum;
}

AVATAR3D_DECLARE_CPU(template <typename T> void skin_forward(const SkinArgs<T>& args, int threads);
                     template <typename T> void skin_backward(const SkinArgs<T>& args, const SkinGrads<T>& grads,
                                                              int threads);)

namespace cuda {
template <typename T>
void skin_forward(const SkinArgs<T>& args, uint64_t stream);
template <typename T>
void skin_backward(const SkinArgs<T>& args, const SkinGrads<T>& grads, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
