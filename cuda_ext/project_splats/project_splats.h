// Gaussian splats to ellipses on the image. One splat at a time, or one vector of them: V is T, or a vector of T.
//
// cov = N N^T with N = J W R S: J the Jacobian of the pinhole camera, W the camera's rotation, R S the splat's axes.
// det(cov) is the sum of the squared 2x2 minors of N, which does not cancel however long and thin the splat is.
#pragma once
#include "common/hd.h"
#include "common/isa.h"
#include "common/lane_math.h"
#include "common/sh.h"

namespace avatar3d {

constexpr double kSplatLowPass = 0.3;           // square pixels, added to both diagonal entries of cov
constexpr double kSplatLeastAlpha = 1.0 / 255;  // what is fainter is not drawn
constexpr double kSplatLog255 = 5.541263545158426;
constexpr double kSplatLeastRatio = 0.000025;   // of det(cov) to det(cov + low pass), for the compensation
constexpr int kCameraGrads = 21;                // 9 rotation, 3 translation, 6 intrinsics, 3 camera centre

template <typename T>
struct ProjectArgs {
    const T* means;      // [n, 3]
    const T* quats;      // [n, 4] wxyz
    const T* scales;     // [n, 3]
    const T* opacities;  // [n]
    const T* K;          // [b, 3, 3]; the last row is taken as 0 0 1
    const T* T_camera_world;  // [b, 4, 4]
    const T* sh;         // [n, coefficients, 3]
    int64_t n, b;
    int32_t coefficients;  // 0 (no colours), 1, 4, 9, 16
    int32_t width, height;
    T near;
    bool antialiased;
    T* pixels;         // [b, n, 2]
    T* conics;         // [b, n, 3]
    T* out_opacities;  // [b, n]
    T* depths;         // [b, n]
    T* colors;         // [b, n, 3], where coefficients > 0
    T* normals;        // [b, n, 3], or null
};

template <typename T>
struct ProjectGrads {
    const T *pixels, *conics, *out_opacities, *depths, *colors, *normals;  // of the outputs; normals or null
    T *means, *quats, *scales, *opacities;                                 // of the inputs
    T* sh;              // or null
    T* K;               // or null
    T* T_camera_world;  // null with K
};

template <typename T>
struct ProjectCamera {
    T W[9], t[3], k[6], centre[3];
    T x_lo, x_hi, y_lo, y_hi;  // how far off the axis the Jacobian is taken: 1.3 times the frustum
    T near, width, height;
};

template <typename T>
AVATAR3D_HD ProjectCamera<T> project_camera(const ProjectArgs<T>& a, int64_t b) {
    ProjectCamera<T> c;
    const T* m = a.T_camera_world + b * 16;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) c.W[i * 3 + j] = m[i * 4 + j];
        c.t[i] = m[i * 4 + 3];
    }
    for (int j = 0; j < 3; ++j) c.centre[j] = -(c.W[j] * c.t[0] + c.W[3 + j] * c.t[1] + c.W[6 + j] * c.t[2]);
    for (int i = 0; i < 6; ++i) c.k[i] = a.K[b * 9 + i];
    c.near = a.near;
    c.width = T(a.width);
    c.height = T(a.height);
    const T x0 = (T(-0.15) * c.width - c.k[2]) / c.k[0], x1 = (T(1.15) * c.width - c.k[2]) / c.k[0];
    const T y0 = (T(-0.15) * c.height - c.k[5]) / c.k[4], y1 = (T(1.15) * c.height - c.k[5]) / c.k[4];
    c.x_lo = x0 < x1 ? x0 : x1;
    c.x_hi = x0 < x1 ? x1 : x0;
    c.y_lo = y0 < y1 ? y0 : y1;
    c.y_hi = y0 < y1 ? y1 : y0;
    return c;
}

// What does not depend on the camera.
template <typename V>
struct Splat {
    V mean[3], scale[3], opacity;
    V q[4], inv_norm;  // unit quaternion; inv_norm is 0 for one without direction
    V R[9];
};

template <typename T, typename V>
AVATAR3D_HD void orient_splat(const V* quat, Splat<V>& s) {
    const V zero = V{}, one = zero + T(1);
    s.inv_norm = inverse_length<T>(quat);
    for (int i = 0; i < 4; ++i) s.q[i] = s.inv_norm > zero ? quat[i] * s.inv_norm : zero;
    const V w = s.q[0], x = s.q[1], y = s.q[2], z = s.q[3];
    s.R[0] = one - (y * y + z * z) * T(2), s.R[1] = (x * y - w * z) * T(2), s.R[2] = (x * z + w * y) * T(2);
    s.R[3] = (x * y + w * z) * T(2), s.R[4] = one - (x * x + z * z) * T(2), s.R[5] = (y * z - w * x) * T(2);
    s.R[6] = (x * z - w * y) * T(2), s.R[7] = (y * z + w * x) * T(2), s.R[8] = one - (x * x + y * y) * T(2);
}

// Gradient of the quaternion as given, from that of the rotation matrix.
template <typename T, typename V>
AVATAR3D_HD void orient_splat_grad(const Splat<V>& s, const V* d, V* grad_quat) {
    const V w = s.q[0], x = s.q[1], y = s.q[2], z = s.q[3];
    V g[4];
    g[0] = (x * (d[7] - d[5]) + y * (d[2] - d[6]) + z * (d[3] - d[1])) * T(2);
    g[1] = (y * (d[3] + d[1]) + z * (d[6] + d[2]) + w * (d[7] - d[5]) - x * (d[4] + d[8]) * T(2)) * T(2);
    g[2] = (x * (d[3] + d[1]) + z * (d[7] + d[5]) + w * (d[2] - d[6]) - y * (d[0] + d[8]) * T(2)) * T(2);
    g[3] = (x * (d[6] + d[2]) + y * (d[7] + d[5]) + w * (d[3] - d[1]) - z * (d[0] + d[4]) * T(2)) * T(2);
    const V along = s.q[0] * g[0] + s.q[1] * g[1] + s.q[2] * g[2] + s.q[3] * g[3];
    for (int i = 0; i < 4; ++i) grad_quat[i] = (g[i] - s.q[i] * along) * s.inv_norm;
}

// One splat seen by one camera, with what the gradient needs again.
template <typename V>
struct SplatView {
    V pixel[2], conic[3], opacity, depth;
    V p[3], iz, xn, yn, xc, yc;  // camera space; x / z, y / z, and both clamped
    V J[6], P[6], U[6], N[6];    // J; J W; J W R; J W R S
    V a, b, c, inv_det, compensation, ratio;
};

// Returns the mask of what may be drawn. Colours are not looked at.
template <typename T, typename V>
AVATAR3D_HD auto view_splat(const Splat<V>& s, const ProjectCamera<T>& k, bool antialiased, SplatView<V>& v) {
    const V zero = V{}, one = zero + T(1);
    for (int i = 0; i < 3; ++i)
        v.p[i] = s.mean[0] * k.W[i * 3] + s.mean[1] * k.W[i * 3 + 1] + s.mean[2] * k.W[i * 3 + 2] + k.t[i];
    const auto in_front = v.p[2] >= zero + k.near;
    v.depth = v.p[2];
    v.iz = one / (in_front ? v.p[2] : one);
    v.xn = v.p[0] * v.iz;
    v.yn = v.p[1] * v.iz;
    v.pixel[0] = v.xn * k.k[0] + v.yn * k.k[1] + k.k[2];
    v.pixel[1] = v.xn * k.k[3] + v.yn * k.k[4] + k.k[5];
    const V x_lo = zero + k.x_lo, x_hi = zero + k.x_hi, y_lo = zero + k.y_lo, y_hi = zero + k.y_hi;
    v.xc = v.xn < x_lo ? x_lo : v.xn;
    v.xc = v.xc > x_hi ? x_hi : v.xc;
    v.yc = v.yn < y_lo ? y_lo : v.yn;
    v.yc = v.yc > y_hi ? y_hi : v.yc;
    for (int r = 0; r < 2; ++r) {
        const T k0 = k.k[r * 3], k1 = k.k[r * 3 + 1];
        v.J[r * 3] = v.iz * k0;
        v.J[r * 3 + 1] = v.iz * k1;
        v.J[r * 3 + 2] = -v.iz * (v.xc * k0 + v.yc * k1);
        for (int j = 0; j < 3; ++j)
            v.P[r * 3 + j] = v.J[r * 3] * k.W[j] + v.J[r * 3 + 1] * k.W[3 + j] + v.J[r * 3 + 2] * k.W[6 + j];
        for (int j = 0; j < 3; ++j) {
            v.U[r * 3 + j] = v.P[r * 3] * s.R[j] + v.P[r * 3 + 1] * s.R[3 + j] + v.P[r * 3 + 2] * s.R[6 + j];
            v.N[r * 3 + j] = v.U[r * 3 + j] * s.scale[j];
        }
    }
    v.a = v.N[0] * v.N[0] + v.N[1] * v.N[1] + v.N[2] * v.N[2];
    v.b = v.N[0] * v.N[3] + v.N[1] * v.N[4] + v.N[2] * v.N[5];
    v.c = v.N[3] * v.N[3] + v.N[4] * v.N[4] + v.N[5] * v.N[5];
    const V m0 = v.N[0] * v.N[4] - v.N[1] * v.N[3], m1 = v.N[1] * v.N[5] - v.N[2] * v.N[4];
    const V m2 = v.N[2] * v.N[3] - v.N[0] * v.N[5];
    const V det0 = m0 * m0 + m1 * m1 + m2 * m2;
    const T low = T(kSplatLowPass);
    const V det = det0 + (v.a + v.c) * low + low * low;
    v.inv_det = one / det;
    v.conic[0] = (v.c + low) * v.inv_det;
    v.conic[1] = -v.b * v.inv_det;
    v.conic[2] = (v.a + low) * v.inv_det;
    v.compensation = v.ratio = one;
    v.opacity = s.opacity;
    if (antialiased) {
        const V least = zero + T(kSplatLeastRatio);
        v.ratio = det0 * v.inv_det;
        v.compensation = square_root(v.ratio > least ? v.ratio : least);
        v.opacity = s.opacity * v.compensation;
    }
    // alpha >= 1/255 lies within (extent in units of sigma)^2 = 2 ln(255 o), and ln o <= o - 1.
    const V reach = (v.opacity + T(kSplatLog255 - 1)) * T(2);
    const V x_room = (v.pixel[0] < zero + T(0.5)                 ? T(0.5) - v.pixel[0]
                      : v.pixel[0] > zero + (k.width - T(0.5)) ? v.pixel[0] - (k.width - T(0.5))
                                                               : zero);
    const V y_room = (v.pixel[1] < zero + T(0.5)                  ? T(0.5) - v.pixel[1]
                      : v.pixel[1] > zero + (k.height - T(0.5)) ? v.pixel[1] - (k.height - T(0.5))
                                                                : zero);
    const V sum = v.pixel[0] + v.pixel[1] + det + v.opacity + v.depth + s.scale[0] + s.scale[1] + s.scale[2];
    return in_front & (sum - sum == zero) & (s.inv_norm > zero) & (v.opacity >= zero + T(kSplatLeastAlpha)) &
           (v.inv_det > zero) & (x_room * x_room <= reach * (v.a + low)) & (y_room * y_room <= reach * (v.c + low));
}

// Gradients of one view: of the outputs in, those of the splat added.
template <typename V>
struct SplatViewGrads {
    V pixel[2], conic[3], opacity, depth;
};
template <typename V>
struct SplatGrads {
    V mean[3], scale[3], opacity, R[9];
};

// `camera` [kCameraGrads] is added to where WithCamera, but for the centre's, which comes with the colours.
template <bool WithCamera, typename T, typename V>
AVATAR3D_HD void view_splat_grad(const Splat<V>& s, const ProjectCamera<T>& k, bool antialiased, const SplatView<V>& v,
                                 const SplatViewGrads<V>& g, SplatGrads<V>& out, V* camera) {
    const V zero = V{};
    // d cov = -Q dQ Q
    const V A = v.conic[0], B = v.conic[1], C = v.conic[2], h = g.conic[1] * T(0.5);
    const V m00 = g.conic[0] * A + h * B, m01 = g.conic[0] * B + h * C, m10 = h * A + g.conic[2] * B;
    const V m11 = h * B + g.conic[2] * C;
    V G00 = -(A * m00 + B * m10), G01 = -(A * m01 + B * m11), G11 = -(B * m01 + C * m11);
    out.opacity += g.opacity * v.compensation;
    if (antialiased) {
        const V f = v.ratio > zero + T(kSplatLeastRatio) ? g.opacity * s.opacity * T(0.5) / v.compensation : zero;
        G00 += f * (v.c * v.inv_det - v.ratio * A);
        G01 += f * (-v.b * v.inv_det - v.ratio * B);
        G11 += f * (v.a * v.inv_det - v.ratio * C);
    }
    V dP[6], dJ[6];
    {
        V dU[6];
        for (int j = 0; j < 3; ++j) {
            const V n0 = (G00 * v.N[j] + G01 * v.N[3 + j]) * T(2), n1 = (G01 * v.N[j] + G11 * v.N[3 + j]) * T(2);
            out.scale[j] += n0 * v.U[j] + n1 * v.U[3 + j];
            dU[j] = n0 * s.scale[j];
            dU[3 + j] = n1 * s.scale[j];
        }
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j) out.R[i * 3 + j] += v.P[i] * dU[j] + v.P[3 + i] * dU[3 + j];
        for (int r = 0; r < 2; ++r)
            for (int j = 0; j < 3; ++j)
                dP[r * 3 + j] = dU[r * 3] * s.R[j * 3] + dU[r * 3 + 1] * s.R[j * 3 + 1] + dU[r * 3 + 2] * s.R[j * 3 + 2];
    }
    for (int r = 0; r < 2; ++r)
        for (int j = 0; j < 3; ++j)
            dJ[r * 3 + j] = dP[r * 3] * k.W[j * 3] + dP[r * 3 + 1] * k.W[j * 3 + 1] + dP[r * 3 + 2] * k.W[j * 3 + 2];
    V d_iz = v.p[2] * (dJ[0] * v.J[0] + dJ[1] * v.J[1] + dJ[2] * v.J[2] + dJ[3] * v.J[3] + dJ[4] * v.J[4] + dJ[5] * v.J[5]);
    const V h0 = v.iz * dJ[2], h1 = v.iz * dJ[5];
    const V dxc = -(h0 * k.k[0] + h1 * k.k[3]), dyc = -(h0 * k.k[1] + h1 * k.k[4]);
    const auto x_inside = v.xc == v.xn;
    const auto y_inside = v.yc == v.yn;
    const V dxn = g.pixel[0] * k.k[0] + g.pixel[1] * k.k[3] + (x_inside ? dxc : zero);
    const V dyn = g.pixel[0] * k.k[1] + g.pixel[1] * k.k[4] + (y_inside ? dyc : zero);
    d_iz += dxn * v.p[0] + dyn * v.p[1];
    const V dp[3] = {dxn * v.iz, dyn * v.iz, g.depth - v.iz * v.iz * d_iz};
    for (int j = 0; j < 3; ++j) out.mean[j] += dp[0] * k.W[j] + dp[1] * k.W[3 + j] + dp[2] * k.W[6 + j];
    if constexpr (WithCamera) {
        for (int i = 0; i < 3; ++i) {
            for (int j = 0; j < 3; ++j)
                camera[i * 3 + j] += dp[i] * s.mean[j] + v.J[i] * dP[j] + v.J[3 + i] * dP[3 + j];
            camera[9 + i] += dp[i];
        }
        // Where x / z is clamped it is (edge - cx) / fx.
        const V ex = x_inside ? zero : dxc / k.k[0], ey = y_inside ? zero : dyc / k.k[4];
        camera[12] += g.pixel[0] * v.xn + v.iz * dJ[0] - h0 * v.xc - ex * v.xc;
        camera[13] += g.pixel[0] * v.yn + v.iz * dJ[1] - h0 * v.yc;
        camera[14] += g.pixel[0] - ex;
        camera[15] += g.pixel[1] * v.xn + v.iz * dJ[3] - h1 * v.xc;
        camera[16] += g.pixel[1] * v.yn + v.iz * dJ[4] - h1 * v.yc - ey * v.yc;
        camera[17] += g.pixel[1] - ey;
    }
}

// From the camera's centre to the splat: unit direction, and 1 / distance.
template <typename T, typename V>
AVATAR3D_HD V view_direction(const Splat<V>& s, const ProjectCamera<T>& k, V* direction) {
    const V zero = V{}, one = zero + T(1);
    const V x = s.mean[0] - k.centre[0], y = s.mean[1] - k.centre[1], z = s.mean[2] - k.centre[2];
    const V squared = x * x + y * y + z * z;
    const V inv = one / square_root(squared > zero ? squared : one);
    direction[0] = x * inv, direction[1] = y * inv, direction[2] = z * inv;
    return inv;
}

// Adds the gradient of the direction to that of the mean and of the camera's centre.
template <bool WithCamera, typename T, typename V>
AVATAR3D_HD void view_direction_grad(const V* direction, V inv, const V* g, SplatGrads<V>& out, V* camera) {
    const V along = direction[0] * g[0] + direction[1] * g[1] + direction[2] * g[2];
    for (int i = 0; i < 3; ++i) {
        const V d = (g[i] - direction[i] * along) * inv;
        out.mean[i] += d;
        if constexpr (WithCamera) camera[18 + i] -= d;
    }
}

// The shortest axis (the first of equals) times +1 or -1, so that it faces the camera: which, and which sign.
template <typename T, typename V>
AVATAR3D_HD void splat_normal(const Splat<V>& s, const ProjectCamera<T>& k, V* share, V* normal) {
    const V zero = V{}, one = zero + T(1);
    const V s0 = s.scale[0] * s.scale[0], s1 = s.scale[1] * s.scale[1], s2 = s.scale[2] * s.scale[2];
    const auto first = (s0 <= s1) & (s0 <= s2);
    share[0] = first ? one : zero;
    share[1] = first ? zero : s1 <= s2 ? one : zero;
    share[2] = one - share[0] - share[1];
    for (int i = 0; i < 3; ++i) normal[i] = s.R[i * 3] * share[0] + s.R[i * 3 + 1] * share[1] + s.R[i * 3 + 2] * share[2];
    const V towards = normal[0] * (s.mean[0] - k.centre[0]) + normal[1] * (s.mean[1] - k.centre[1]) +
                      normal[2] * (s.mean[2] - k.centre[2]);
    const V sign = towards > zero ? -one : one;
    for (int i = 0; i < 3; ++i) share[i] = share[i] * sign, normal[i] = normal[i] * sign;
}

// Sums over the splats (kCameraGrads) to the gradients of one camera's K and T_camera_world.
template <typename T>
AVATAR3D_HD void camera_grads(const ProjectCamera<T>& k, const T* sums, T* K, T* T_camera_world) {
    for (int i = 0; i < 6; ++i) K[i] = sums[12 + i];
    for (int i = 6; i < 9; ++i) K[i] = T(0);
    for (int r = 0; r < 3; ++r) {
        T* row = T_camera_world + r * 4;
        row[3] = sums[9 + r];
        for (int j = 0; j < 3; ++j) {
            row[j] = sums[r * 3 + j] - k.t[r] * sums[18 + j];
            row[3] -= k.W[r * 3 + j] * sums[18 + j];
        }
    }
    for (int j = 0; j < 4; ++j) T_camera_world[12 + j] = T(0);
}

AVATAR3D_DECLARE_CPU(template <typename T> void project_splats_forward(const ProjectArgs<T>& args, int threads);
                     template <typename T> void project_splats_backward(const ProjectArgs<T>& args,
                                                                        const ProjectGrads<T>& grads, int threads);)

namespace cuda {
// Numbers of type T that the backward pass needs as scratch where camera gradients are wanted.
int64_t project_splats_scratch(int64_t b, int64_t n);
template <typename T>
void project_splats_forward(const ProjectArgs<T>& args, uint64_t stream);
template <typename T>
void project_splats_backward(const ProjectArgs<T>& args, const ProjectGrads<T>& grads, T* scratch, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
