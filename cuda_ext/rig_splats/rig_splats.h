// Splats that ride on triangles. One at a time, or one vector of them: V is T, or a vector of T.
//
// Gradients go through the turn of the triangle: a small turn w moves the splat by w x (size R offset) and its
// quaternion Q by (0, w) Q / 2; in the triangle's frame (e1 along x, e2 = along x + height y) the turn is
//     w_x = z . (de2 - (along / |e1|) de1) / height,   w_y = -z . de1 / |e1|,   w_z = y . de1 / |e1|.
#pragma once
#include "common/hd.h"
#include "common/isa.h"
#include "common/lane_math.h"

namespace avatar3d {

template <typename T>
struct RigSplatsArgs {
    const T* vertices;      // [b, v, 3]
    const int32_t* faces;   // [f, 3]
    const int32_t* face;    // [n]
    const T* barycentrics;  // [n, 3]
    const T* offsets;       // [n, 3]
    const T* quats;         // [n, 4] wxyz
    const T* scales;        // [n, 3]
    int64_t b, v, f, n;
    T *out_means, *out_quats, *out_scales;  // [b, n, 3], [b, n, 4], [b, n, 3]
};

template <typename T>
struct RigSplatsGrads {
    const T *means, *quats_out, *scales_out;             // of the outputs
    T *barycentrics, *offsets, *quats, *scales;          // of the inputs
    T* vertices;                                         // or null
};

// 16 numbers, so that a table of them is read like rows.
template <typename V>
struct FaceFrame {
    V R[9];      // columns: first edge, normal x first edge, normal
    V size;      // sqrt(2 area); 0 for a triangle without area
    V q[4];      // of R, w >= 0
    V inv_edge;  // 1 / |e1|; 0 without area
    V along;     // of e2, along e1
};

template <typename T, typename V>
AVATAR3D_HD void face_frame(const V* v0, const V* v1, const V* v2, FaceFrame<V>& f) {
    const V zero = V{}, one = zero + T(1);
    V e1[3], e2[3];
    for (int i = 0; i < 3; ++i) e1[i] = v1[i] - v0[i], e2[i] = v2[i] - v0[i];
    const V n[3] = {e1[1] * e2[2] - e1[2] * e2[1], e1[2] * e2[0] - e1[0] * e2[2], e1[0] * e2[1] - e1[1] * e2[0]};
    const V nn = n[0] * n[0] + n[1] * n[1] + n[2] * n[2], ee = e1[0] * e1[0] + e1[1] * e1[1] + e1[2] * e1[2];
    const auto usable = (nn > zero + T(1e-30)) & (nn < zero + T(1e30)) & (ee > zero + T(1e-30)) & (ee < zero + T(1e30));
    const V length = square_root(usable ? nn : one), inv = one / length;
    const V inv_edge = one / square_root(usable ? ee : one);
    f.size = usable ? square_root(length) : zero;
    f.inv_edge = usable ? inv_edge : zero;
    V x[3], z[3];
    for (int i = 0; i < 3; ++i) {
        x[i] = usable ? e1[i] * inv_edge : zero + T(i == 0);
        z[i] = usable ? n[i] * inv : zero + T(i == 2);
    }
    f.along = usable ? x[0] * e2[0] + x[1] * e2[1] + x[2] * e2[2] : zero;
    for (int i = 0; i < 3; ++i) {
        f.R[i * 3] = x[i];
        f.R[i * 3 + 1] = z[(i + 1) % 3] * x[(i + 2) % 3] - z[(i + 2) % 3] * x[(i + 1) % 3];
        f.R[i * 3 + 2] = z[i];
    }
    // Shepperd 1978: by the largest of the four components.
    const V* m = f.R;
    const V s[4] = {one + m[0] + m[4] + m[8], one + m[0] - m[4] - m[8], one - m[0] + m[4] - m[8], one - m[0] - m[4] + m[8]};
    const V wx = m[7] - m[5], wy = m[2] - m[6], wz = m[3] - m[1], xy = m[3] + m[1], xz = m[6] + m[2], yz = m[7] + m[5];
    const auto second = s[1] > s[0];
    V best = second ? s[1] : s[0];
    V q[4] = {second ? wx : s[0], second ? s[1] : wx, second ? xy : wy, second ? xz : wz};
    const auto third = s[2] > best;
    best = third ? s[2] : best;
    q[0] = third ? wy : q[0], q[1] = third ? xy : q[1], q[2] = third ? s[2] : q[2], q[3] = third ? yz : q[3];
    const auto fourth = s[3] > best;
    best = fourth ? s[3] : best;
    q[0] = fourth ? wz : q[0], q[1] = fourth ? xz : q[1], q[2] = fourth ? yz : q[2], q[3] = fourth ? s[3] : q[3];
    V scale = one / square_root(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    scale = q[0] < zero ? -scale : scale;
    for (int i = 0; i < 4; ++i) f.q[i] = q[i] * scale;
}

template <typename V>
struct RiggedSplat {
    V barycentrics[3], offset[3], scale[3];
    V q[4], inv_norm;  // unit quaternion; inv_norm is 0 for one without direction
};

template <typename T, typename V>
AVATAR3D_HD void normalise_quat(const V* quat, RiggedSplat<V>& s) {
    const V zero = V{};
    s.inv_norm = inverse_length<T>(quat);
    for (int i = 0; i < 4; ++i) s.q[i] = s.inv_norm > zero ? quat[i] * s.inv_norm : zero;
}

// out = a b
template <typename V>
AVATAR3D_HD void quat_product(const V* a, const V* b, V* out) {
    out[0] = a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3];
    out[1] = a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2];
    out[2] = a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1];
    out[3] = a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0];
}

// `corners` are the triangle's three, 9 numbers. `turned` is R offset.
template <typename V>
AVATAR3D_HD void rig_splat(const FaceFrame<V>& f, const V* corners, const RiggedSplat<V>& s, V* mean, V* quat, V* scale,
                           V* turned) {
    for (int i = 0; i < 3; ++i) {
        turned[i] = f.R[i * 3] * s.offset[0] + f.R[i * 3 + 1] * s.offset[1] + f.R[i * 3 + 2] * s.offset[2];
        mean[i] = s.barycentrics[0] * corners[i] + s.barycentrics[1] * corners[3 + i] + s.barycentrics[2] * corners[6 + i] +
                  f.size * turned[i];
        scale[i] = f.size * s.scale[i];
    }
    quat_product(f.q, s.q, quat);
}

template <typename V>
struct RiggedSplatGrads {
    V barycentrics[3], offset[3], q[4], scale[3];
};

// Adds to `out`; `vertices` are the gradients of the corners, 9 numbers.
template <bool WithVertices, typename T, typename V>
AVATAR3D_HD void rig_splat_grad(const FaceFrame<V>& f, const V* corners, const RiggedSplat<V>& s, const V* quat,
                                const V* turned, const V* g_mean, const V* g_quat, const V* g_scale,
                                RiggedSplatGrads<V>& out, V* vertices) {
    V g_size = V{};
    for (int i = 0; i < 3; ++i) {
        out.barycentrics[i] += g_mean[0] * corners[i * 3] + g_mean[1] * corners[i * 3 + 1] + g_mean[2] * corners[i * 3 + 2];
        out.offset[i] += f.size * (f.R[i] * g_mean[0] + f.R[3 + i] * g_mean[1] + f.R[6 + i] * g_mean[2]);
        out.scale[i] += f.size * g_scale[i];
        g_size += g_mean[i] * turned[i] + g_scale[i] * s.scale[i];
    }
    const V back[4] = {f.q[0], -f.q[1], -f.q[2], -f.q[3]};
    V g_q[4];
    quat_product(back, g_quat, g_q);
    for (int i = 0; i < 4; ++i) out.q[i] += g_q[i];
    if constexpr (WithVertices) {
        const V zero = V{}, one = zero + T(1);
        V turn[3], local[3];
        for (int i = 0; i < 3; ++i) {
            const int j = (i + 1) % 3, k = (i + 2) % 3;
            turn[i] = f.size * (turned[j] * g_mean[k] - turned[k] * g_mean[j]) +
                      (quat[0] * g_quat[1 + i] - g_quat[0] * quat[1 + i] + quat[1 + j] * g_quat[1 + k] -
                       quat[1 + k] * g_quat[1 + j]) * T(0.5);
        }
        for (int i = 0; i < 3; ++i) local[i] = f.R[i] * turn[0] + f.R[3 + i] * turn[1] + f.R[6 + i] * turn[2];
        const auto usable = f.size > zero;
        const V inv_size = usable ? one / (usable ? f.size : one) : zero;
        const V edge = usable ? one / (usable ? f.inv_edge : one) : zero;
        const V inv_height = edge * inv_size * inv_size, height = f.size * f.size * f.inv_edge;
        const V stretch = g_size * inv_size * T(0.5);
        const V e1x = stretch * height, e1y = local[2] * f.inv_edge - stretch * f.along;
        const V e1z = -(local[1] + local[0] * f.along * inv_height) * f.inv_edge;
        const V e2y = stretch * edge, e2z = local[0] * inv_height;
        for (int i = 0; i < 3; ++i) {
            const V e1 = usable ? f.R[i * 3] * e1x + f.R[i * 3 + 1] * e1y + f.R[i * 3 + 2] * e1z : zero;
            const V e2 = usable ? f.R[i * 3 + 1] * e2y + f.R[i * 3 + 2] * e2z : zero;
            vertices[i] = s.barycentrics[0] * g_mean[i] - e1 - e2;
            vertices[3 + i] = s.barycentrics[1] * g_mean[i] + e1;
            vertices[6 + i] = s.barycentrics[2] * g_mean[i] + e2;
        }
    }
}

// From the gradient of the unit quaternion to that of the quaternion as given.
template <typename V>
AVATAR3D_HD void normalise_quat_grad(const RiggedSplat<V>& s, const V* g, V* out) {
    const V along = s.q[0] * g[0] + s.q[1] * g[1] + s.q[2] * g[2] + s.q[3] * g[3];
    for (int i = 0; i < 4; ++i) out[i] = (g[i] - s.q[i] * along) * s.inv_norm;
}

AVATAR3D_DECLARE_CPU(template <typename T> void rig_splats_forward(const RigSplatsArgs<T>& args, int threads);
                     template <typename T> void rig_splats_backward(const RigSplatsArgs<T>& args,
                                                                    const RigSplatsGrads<T>& grads, int threads);)

namespace cuda {
template <typename T>
void rig_splats_forward(const RigSplatsArgs<T>& args, uint64_t stream);
// Where gradients of the vertices are wanted: `records` [b, n, 9] is scratch; `order` holds the corners of all splats
// (splat * 3 + corner) sorted by vertex, `starts` [v + 1] where each vertex' begin.
template <typename T>
void rig_splats_backward(const RigSplatsArgs<T>& args, const RigSplatsGrads<T>& grads, T* records, const int64_t* order,
                         const int64_t* starts, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
