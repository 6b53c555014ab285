// Rotation vectors along a chain of joints: Rodrigues' formula, then T_posed_rest = [G | t - G p] of every joint with
// G = G_parent R, t = t_parent + G_parent (p - p_parent). One item of the batch at a time, shared by C++ and CUDA.
#pragma once
#include <cmath>

#include "common/hd.h"
#include "common/isa.h"

namespace avatar3d {

template <typename T>
struct PoseArgs {
    const T* rest;           // [b, j, 3]
    const T* rotvecs;        // [b, j, 3]
    const int32_t* parents;  // [j]; -1 for a root; parents come before children
    int64_t b, j;
    T* R;             // [b, j, 3, 3]
    T* T_posed_rest;  // [b, j, 4, 4]
};

template <typename T>
struct PoseGrads {
    const T* grad_R;  // [b, j, 3, 3]
    const T* grad_T;  // [b, j, 4, 4]
    T* scratch;       // [b, j, 12] gradients of T_posed_rest that the children send, zeroed by the caller
    T* grad_rest;     // [b, j, 3]
    T* grad_rotvecs;  // [b, j, 3]
};

// R = 1 + a K + b K^2 with K w = r x w, and how a and b change: da = a'(angle) / angle, db likewise.
template <typename T>
struct Rodrigues {
    T a, b, da, db;
};

template <typename T>
AVATAR3D_HD Rodrigues<T> rodrigues(const T* r) {
    using std::cos;
    using std::sin;
    using std::sqrt;
    const T square = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
    const T near = sizeof(T) == 4 ? T(2e-2) : T(1e-4);  // below, the closed forms cancel more than the series drops
    if (square < near)
        return {T(1) - square / 6 + square * square / 120, T(0.5) - square / 24 + square * square / 720,
                T(-1) / 3 + square / 30 - square * square / 840, T(-1) / 12 + square / 180 - square * square / 6720};
    const T angle = sqrt(square), s = sin(angle), half = sin(angle / 2), one_minus = 2 * half * half;
    return {s / angle, one_minus / square, (angle * cos(angle) - s) / (square * angle),
            (angle * s - 2 * one_minus) / (square * square)};
}

template <typename T>
AVATAR3D_HD void rotation_of(const T* r, T* R) {
    const Rodrigues<T> f = rodrigues(r);
    const T square = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
    for (int i = 0; i < 3; ++i)
        for (int c = 0; c < 3; ++c) R[i * 3 + c] = f.b * r[i] * r[c];
    for (int i = 0; i < 3; ++i) R[i * 4] += T(1) - f.b * square;
    R[1] -= f.a * r[2], R[2] += f.a * r[1];
    R[3] += f.a * r[2], R[5] -= f.a * r[0];
    R[6] -= f.a * r[1], R[7] += f.a * r[0];
}

// Gradient of <M, R(r)> with respect to r.
template <typename T>
AVATAR3D_HD void rotation_grad(const T* r, const T* M, T* grad) {
    const Rodrigues<T> f = rodrigues(r);
    const T square = r[0] * r[0] + r[1] * r[1] + r[2] * r[2], trace = M[0] + M[4] + M[8];
    const T axial[3] = {M[7] - M[5], M[2] - M[6], M[3] - M[1]};
    T both[3], along = T(0), twice = T(0);
    for (int i = 0; i < 3; ++i) {
        both[i] = T(0);
        for (int c = 0; c < 3; ++c) both[i] += (M[i * 3 + c] + M[c * 3 + i]) * r[c];
        along += axial[i] * r[i];
        twice += both[i] * r[i];
    }
    const T radial = f.da * along + f.db * (twice / 2 - square * trace);
    for (int i = 0; i < 3; ++i) grad[i] = f.a * axial[i] + f.b * (both[i] - 2 * trace * r[i]) + radial * r[i];
}

template <typename T>
AVATAR3D_HD void pose_chain(const PoseArgs<T>& a, int64_t b) {
    for (int64_t j = 0; j < a.j; ++j) {
        const int64_t i = b * a.j + j;
        const T* p = a.rest + i * 3;
        T *R = a.R + i * 9, *M = a.T_posed_rest + i * 16;
        rotation_of(a.rotvecs + i * 3, R);
        T G[9], t[3];
        if (a.parents[j] < 0) {
            for (int k = 0; k < 9; ++k) G[k] = R[k];
            for (int k = 0; k < 3; ++k) t[k] = p[k];
        } else {
            const T* P = a.T_posed_rest + (b * a.j + a.parents[j]) * 16;  // the joint moves as its parent's rest space
            for (int r = 0; r < 3; ++r) {
                for (int c = 0; c < 3; ++c)
                    G[r * 3 + c] = P[r * 4] * R[c] + P[r * 4 + 1] * R[3 + c] + P[r * 4 + 2] * R[6 + c];
                t[r] = P[r * 4] * p[0] + P[r * 4 + 1] * p[1] + P[r * 4 + 2] * p[2] + P[r * 4 + 3];
            }
        }
        for (int r = 0; r < 3; ++r) {
            for (int c = 0; c < 3; ++c) M[r * 4 + c] = G[r * 3 + c];
            M[r * 4 + 3] = t[r] - (G[r * 3] * p[0] + G[r * 3 + 1] * p[1] + G[r * 3 + 2] * p[2]);
        }
        M[12] = M[13] = M[14] = T(0), M[15] = T(1);
    }
}

template <typename T>
AVATAR3D_HD void pose_chain_grad(const PoseArgs<T>& a, const PoseGrads<T>& g, int64_t b) {
    for (int64_t j = a.j - 1; j >= 0; --j) {
        const int64_t i = b * a.j + j;
        const T *p = a.rest + i * 3, *R = a.R + i * 9, *M = a.T_posed_rest + i * 16, *gM = g.grad_T + i * 16;
        T *own = g.scratch + i * 12, *gp = g.grad_rest + i * 3;
        T gG[9], gt[3], gR[9];
        for (int r = 0; r < 3; ++r) {
            gt[r] = own[9 + r] + gM[r * 4 + 3];
            for (int c = 0; c < 3; ++c) gG[r * 3 + c] = own[r * 3 + c] + gM[r * 4 + c] - gt[r] * p[c];
        }
        for (int c = 0; c < 3; ++c) gp[c] = -(M[c] * gt[0] + M[4 + c] * gt[1] + M[8 + c] * gt[2]);
        if (a.parents[j] < 0) {
            for (int k = 0; k < 9; ++k) gR[k] = g.grad_R[i * 9 + k] + gG[k];
            for (int k = 0; k < 3; ++k) gp[k] += gt[k];
        } else {
            const int64_t parent = b * a.j + a.parents[j];
            const T* P = a.T_posed_rest + parent * 16;
            T* up = g.scratch + parent * 12;
            for (int r = 0; r < 3; ++r) {
                for (int c = 0; c < 3; ++c) {
                    gR[r * 3 + c] = g.grad_R[i * 9 + r * 3 + c] + P[r] * gG[c] + P[4 + r] * gG[3 + c] + P[8 + r] * gG[6 + c];
                    up[r * 3 + c] += gG[r * 3] * R[c * 3] + gG[r * 3 + 1] * R[c * 3 + 1] + gG[r * 3 + 2] * R[c * 3 + 2] +
                                     gt[r] * p[c];
                }
                up[9 + r] += gt[r];
                gp[r] += P[r] * gt[0] + P[4 + r] * gt[1] + P[8 + r] * gt[2];
            }
        }
        rotation_grad(a.rotvecs + i * 3, gR, g.grad_rotvecs + i * 3);
    }
}

AVATAR3D_DECLARE_CPU(template <typename T> void pose_joints_forward(const PoseArgs<T>& args, int threads);
                     template <typename T> void pose_joints_backward(const PoseArgs<T>& args, const PoseGrads<T>& grads,
                                                                     int threads);)

namespace cuda {
template <typename T>
void pose_joints_forward(const PoseArgs<T>& args, uint64_t stream);
template <typename T>
void pose_joints_backward(const PoseArgs<T>& args, const PoseGrads<T>& grads, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
