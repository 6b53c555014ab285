// Gauss-Newton equations of a linear face model seen as landmarks. One landmark at a time, shared by C++ and CUDA.
//
// Unknowns of an observation, in order: e expression coefficients, 3 of rotation and 3 of translation in camera
// axes (R <- exp(w) R, t <- t + dt), and, with `shared`, the logarithm of the focal length and k identity coefficients.
#pragma once
#include "common/hd.h"
#include "common/isa.h"

#ifndef __CUDACC__
#include <cmath>
#endif

namespace avatar3d {

template <typename T>
struct LandmarkArgs {
    const T* points;            // [l, 3] landmarks of the mean face
    const T* identity_basis;    // [l, 3, k]
    const T* expression_basis;  // [l, 3, e]
    const T* expression_scale;  // [k]
    const int64_t* pairs;       // [p, 2] landmarks whose distance in the picture is a measurement of its own
    const T* identity;          // [k]
    const T* expression;        // [o, e]
    const T* T_camera_head;     // [o, 4, 4]
    const T* intrinsics;        // [o, 4] fx, fy, cx, cy
    const T* detections;        // [o, l, 2]
    const T* weights;           // [o, l] 1 / sigma^2, 1 / px^2; 0 where there is no detection
    const T* pair_weights;      // [o, p]
    int64_t o, l, k, e, p;
    T cauchy;    // scale of the robust loss, in sigmas
    T discount;  // factor on every measurement, which are not independent
    bool shared;
    bool summed;  // the identity's block of H: of all observations together in the first one's, 0 in the others
    T* scratch;  // [l, 3 + 1]: the neutral's landmarks, and in the first entry of the last column the expression scale
    T* H;        // [o, n, n]
    T* g;        // [o, n]
    T* cost;     // [o]

    AVATAR3D_HD int64_t unknowns() const { return e + 6 + (shared ? 1 + k : 0); }
    AVATAR3D_HD int64_t rows() const { return l + p; }  // each of two numbers
};

// One landmark in one picture: its residual and the derivatives that every column is made of.
template <typename T>
struct LandmarkView {
    T moved[3];    // displacement by expression at scale 1
    T turned[3];   // R x: relative to the head's origin, camera axes
    T D[6];        // d pixel / d camera point
    T DR[6];       // d pixel / d model point
    T pixel[2];    // relative to the principal point
    T residual[2];
};

// Sums in the plainest order; the CPU passes one that runs in wide vectors.
struct PlainDot {
    template <typename T>
    AVATAR3D_HD T operator()(const T* a, const T* b, int64_t n) const {
        T sum = T(0);
        for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
        return sum;
    }
};

// The neutral's landmark: mean + identity.
template <typename T, typename Dot>
AVATAR3D_HD void neutral_landmark(const LandmarkArgs<T>& a, int64_t l, Dot dot, T* out) {
    for (int c = 0; c < 3; ++c)
        out[c] = a.points[l * 3 + c] + dot(a.identity_basis + (l * 3 + c) * a.k, a.identity, a.k);
}

template <typename T, typename Dot>
AVATAR3D_HD T scale_of(const LandmarkArgs<T>& a, Dot dot) {
    return T(1) + dot(a.expression_scale, a.identity, a.k);
}

template <typename T, typename Dot>
AVATAR3D_HD void view_landmark(const LandmarkArgs<T>& a, int64_t o, int64_t l, const T* neutral, T scale, Dot dot,
                               LandmarkView<T>& v) {
    const T* coefficient = a.expression + o * a.e;
    const T* M = a.T_camera_head + o * 16;
    const T* in = a.intrinsics + o * 4;
    const T* seen = a.detections + (o * a.l + l) * 2;
    T x[3];
    for (int c = 0; c < 3; ++c) {
        v.moved[c] = dot(a.expression_basis + (l * 3 + c) * a.e, coefficient, a.e);
        x[c] = neutral[c] + scale * v.moved[c];
    }
    T X[3];
    for (int r = 0; r < 3; ++r) {
        v.turned[r] = M[r * 4] * x[0] + M[r * 4 + 1] * x[1] + M[r * 4 + 2] * x[2];
        X[r] = v.turned[r] + M[r * 4 + 3];
    }
    const T nearest = T(1e-3);  // metres; a point behind the camera has no picture
    const T z = X[2] > nearest ? X[2] : nearest;
    const T fx = in[0] / z, fy = in[1] / z;
    v.pixel[0] = fx * X[0];
    v.pixel[1] = fy * X[1];
    v.D[0] = fx, v.D[1] = T(0), v.D[2] = -v.pixel[0] / z;
    v.D[3] = T(0), v.D[4] = fy, v.D[5] = -v.pixel[1] / z;
    for (int r = 0; r < 2; ++r) {
        for (int c = 0; c < 3; ++c)
            v.DR[r * 3 + c] = v.D[r * 3] * M[c] + v.D[r * 3 + 1] * M[4 + c] + v.D[r * 3 + 2] * M[8 + c];
        v.residual[r] = v.pixel[r] + in[2 + r] - seen[r];
    }
}

// The pose's six columns of row r, and the focal length's one.
template <typename T>
AVATAR3D_HD void pose_columns(const LandmarkView<T>& v, int r, T* out) {
    const T *d = v.D + r * 3, *q = v.turned;
    out[0] = d[2] * q[1] - d[1] * q[2];
    out[1] = d[0] * q[2] - d[2] * q[0];
    out[2] = d[1] * q[0] - d[0] * q[1];
    out[3] = d[0], out[4] = d[1], out[5] = d[2];
    out[6] = v.pixel[r];
}

// Cauchy's loss of a squared, whitened residual; returns the factor on its weight.
template <typename T>
AVATAR3D_HD T robust(T square, T cauchy, T* cost) {
    const T relative = square / (cauchy * cauchy);
#ifdef __CUDA_ARCH__
    *cost = T(0.5) * cauchy * cauchy * log1p(relative);
#else
    *cost = T(0.5) * cauchy * cauchy * std::log1p(relative);
#endif
    return T(1) / (T(1) + relative);
}

AVATAR3D_DECLARE_CPU(template <typename T> void landmark_equations_forward(const LandmarkArgs<T>& args, int threads);)

namespace cuda {
template <typename T>
void landmark_equations_forward(const LandmarkArgs<T>& args, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
