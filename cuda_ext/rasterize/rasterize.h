// Which triangle a pixel sees, and where on it. One triangle or one pixel at a time, shared by C++ and CUDA.
//
// Everything happens in homogeneous pixel coordinates q = K p = (x z, y z, z), so nothing is ever clipped: with
// n_i = q_j x q_k and the pixel P = (x, y, 1), E_i = P . n_i is linear in x and y, the barycentrics are E_i / sum(E)
// (perspective included), and the depth is det / sum(E). A pixel is inside where all E_i / det >= 0 (Olano and
// Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997).
//
// A shared edge is covered exactly once: n_i is computed in double such that swapping the edge's ends gives the exact
// negative, and evaluated by the same operations relative to the same tile corner, so that the two triangles hold exact
// negatives at every pixel; zero belongs to the side that a shift of the pixel by (+eps, +eps^2) would reach.
//
// Of equal depths the triangle that faces the camera wins, then the lower index.
#pragma once
#include <cmath>

#include "common/hd.h"
#include "common/isa.h"

namespace avatar3d {

constexpr int kRasterTile = 64;          // pixels; edge functions are evaluated relative to their tile's corner
constexpr double kRasterLimit = 1e15;    // points beyond are skipped, as NaN is
constexpr float kRasterPositive = 1.17549435e-38f;  // least normal float: E >= this instead of E > 0

template <typename T>
struct RasterArgs {
    const T* points;       // [b, v, 3] homogeneous pixels
    const int32_t* faces;  // [f, 3]
    int64_t b, v, f;
    int32_t height, width;
    T near;                // least depth that is drawn
    bool cull;             // leave out triangles that face away
    int32_t* triangle;     // [b, h, w], -1 for none
    T* barycentrics;       // [b, h, w, 3]
    T* depth;              // [b, h, w], 0 for none
};

template <typename T>
struct RasterGrads {
    const int32_t* triangle;      // [b, h, w]
    const T* barycentrics;        // [b, h, w, 3]
    const T* depth;               // [b, h, w]
    const T* grad_barycentrics;   // [b, h, w, 3]
    const T* grad_depth;          // [b, h, w]
    T* grad_points;               // [b, v, 3], zeroed by the caller
};

struct PixelBox {
    int32_t x0, y0, x1, y1;  // inclusive; empty if x1 < x0
};

// E_i = n[i] . (x, y, 1), oriented so that inside is positive.
struct TriangleEdges {
    double n[3][3];
    double det;  // absolute
    bool away;   // the triangle faces away from the camera
};

// One triangle within one tile: E_i(x, y) = a_i x + (b_i y + e_i), x and y in whole pixels from the tile's corner.
template <typename T>
struct TileTriangle {
    T a[3], b[3], e[3];
    T threshold[3];  // inside is E_i >= threshold_i
    T inv_det;
};

// a b - c d such that swapping the two products gives the exact negative, whatever is contracted.
AVATAR3D_HD double difference_of_products(double a, double b, double c, double d) {
#if defined(__FMA__) || defined(__CUDA_ARCH__) || defined(__ARM_FEATURE_FMA)
    return 0.5 * (fma(a, b, -(c * d)) + fma(-c, d, a * b));
#else
    return a * b - c * d;
#endif
}

AVATAR3D_HD void cross(const double* a, const double* b, double* out) {
    out[0] = difference_of_products(a[1], b[2], a[2], b[1]);
    out[1] = difference_of_products(a[2], b[0], a[0], b[2]);
    out[2] = difference_of_products(a[0], b[1], a[1], b[0]);
}

// False where the triangle has no area as seen from the camera.
AVATAR3D_HD bool edges_of(const double q[3][3], TriangleEdges& out) {
    for (int i = 0; i < 3; ++i) cross(q[(i + 1) % 3], q[(i + 2) % 3], out.n[i]);
    const double det = q[0][0] * out.n[0][0] + q[0][1] * out.n[0][1] + q[0][2] * out.n[0][2];
    const double sign = det < 0 ? -1.0 : 1.0;
    bool apart = true;  // two corners in one place leave an edge of zeros
    for (int i = 0; i < 3; ++i) {
        apart = apart & ((out.n[i][0] != 0) | (out.n[i][1] != 0) | (out.n[i][2] != 0));
        for (int c = 0; c < 3; ++c) out.n[i][c] *= sign;
    }
    out.away = det > 0;
    out.det = det * sign;
    return apart & (out.det > 0);
}

template <typename T>
AVATAR3D_HD bool triangle_edges(const T* points, const int32_t* face, TriangleEdges& out) {
    double q[3][3];
    for (int i = 0; i < 3; ++i)
        for (int c = 0; c < 3; ++c) q[i][c] = double(points[int64_t(face[i]) * 3 + c]);
    return edges_of(q, out);
}

template <typename T>
AVATAR3D_HD TileTriangle<T> tile_triangle(const TriangleEdges& s, double x, double y) {
    TileTriangle<T> t;
    for (int i = 0; i < 3; ++i) {
        const double* n = s.n[i];
        t.a[i] = T(n[0]);
        t.b[i] = T(n[1]);
        t.e[i] = T(n[0] * x + (n[1] * y + n[2]));
        t.threshold[i] = ((n[0] > 0) | ((n[0] == 0) & (n[1] > 0))) ? T(0) : T(kRasterPositive);
    }
    t.inv_det = T(1.0 / s.det);
    return t;
}

// The edge functions at one pixel; whether it is inside.
template <typename T>
AVATAR3D_HD bool evaluate(const TileTriangle<T>& t, T x, T y, T* E) {
    bool inside = true;
    for (int i = 0; i < 3; ++i) {
        E[i] = t.a[i] * x + (t.b[i] * y + t.e[i]);
        inside = inside && E[i] >= t.threshold[i];
    }
    return inside;
}

// 1 / depth: what the z-buffer keeps, the largest wins.
template <typename T>
AVATAR3D_HD T inverse_depth(const TileTriangle<T>& t, const T* E) {
    return (E[0] * t.inv_det + E[1] * t.inv_det) + E[2] * t.inv_det;
}

template <typename T>
AVATAR3D_HD void resolve_pixel(const TileTriangle<T>& t, T x, T y, T* barycentrics, T* depth) {
    T E[3];
    evaluate(t, x, y, E);
    for (int i = 0; i < 3; ++i) E[i] *= t.inv_det;
    *depth = T(1) / ((E[0] + E[1]) + E[2]);
    for (int i = 0; i < 3; ++i) barycentrics[i] = E[i] * *depth;
}

// What may be covered, generously; `crossing` where part of the triangle is nearer than `near`.
template <typename T>
AVATAR3D_HD PixelBox triangle_box(const T* points, const int32_t* face, T near, int32_t height, int32_t width,
                                  bool* crossing) {
    const PixelBox none{0, 0, -1, -1};
    double lo[2] = {1e30, 1e30}, hi[2] = {-1e30, -1e30};
    int in_front = 0;
    for (int i = 0; i < 3; ++i) {
        const T* q = points + int64_t(face[i]) * 3;
        for (int c = 0; c < 3; ++c)
            if (!(double(q[c]) < kRasterLimit && double(q[c]) > -kRasterLimit)) return none;
        if (q[2] < near) continue;
        ++in_front;
        for (int c = 0; c < 2; ++c) {
            const double s = double(q[c]) / double(q[2]);
            lo[c] = s < lo[c] ? s : lo[c];
            hi[c] = s > hi[c] ? s : hi[c];
        }
    }
    *crossing = in_front < 3;
    if (in_front == 0) return none;
    if (*crossing) {  // where the edges pierce the near plane
        for (int i = 0; i < 3; ++i) {
            const T* u = points + int64_t(face[i]) * 3;
            const T* w = points + int64_t(face[(i + 1) % 3]) * 3;
            if ((u[2] < near) == (w[2] < near)) continue;
            const double s = (double(near) - double(u[2])) / (double(w[2]) - double(u[2]));
            for (int c = 0; c < 2; ++c) {
                const double p = (double(u[c]) + s * (double(w[c]) - double(u[c]))) / double(near);
                lo[c] = p < lo[c] ? p : lo[c];
                hi[c] = p > hi[c] ? p : hi[c];
            }
        }
    }
    const double slack = *crossing ? 1.0 : 0.01;
    const double x0 = lo[0] - 0.5 - slack, y0 = lo[1] - 0.5 - slack, x1 = hi[0] - 0.5 + slack, y1 = hi[1] - 0.5 + slack;
    if (x0 > width - 1 || y0 > height - 1 || x1 < 0 || y1 < 0) return none;
    PixelBox box;  // int() rounds towards zero
    box.x0 = x0 <= 0 ? 0 : int32_t(x0) + (double(int32_t(x0)) < x0);
    box.y0 = y0 <= 0 ? 0 : int32_t(y0) + (double(int32_t(y0)) < y0);
    box.x1 = x1 >= width - 1 ? width - 1 : int32_t(x1);
    box.y1 = y1 >= height - 1 ? height - 1 : int32_t(y1);
    if (box.y1 < box.y0) box.x1 = box.x0 - 1;
    return box;
}

// Gradient of one pixel. With M = [q_0 q_1 q_2], M b = depth P and sum(b) = 1:
//   db = b (h . y) - M^-1 y,  d(depth) = depth (h . y),  y = sum_k b_k dq_k,  h = sum_i n_i / det,  M^-1 = [n_i] / det
// so the cotangent of q_k is b_k G with G = sum_i n_i (g . b + g_depth depth - g_i) / det.
template <typename T>
AVATAR3D_HD void pixel_gradient(const TriangleEdges& s, const T* b, T depth, const T* g, T g_depth, T* G) {
    const double common = double(g[0]) * b[0] + double(g[1]) * b[1] + double(g[2]) * b[2] + double(g_depth) * depth;
    for (int c = 0; c < 3; ++c) {
        double sum = 0;
        for (int i = 0; i < 3; ++i) sum += s.n[i][c] * (common - double(g[i]));
        G[c] = T(sum / s.det);
    }
}

AVATAR3D_DECLARE_CPU(template <typename T> void rasterize_forward(const RasterArgs<T>& args, int threads);
                     template <typename T> void rasterize_backward(const RasterArgs<T>& args, const RasterGrads<T>& grads,
                                                                   int threads);)

namespace cuda {
template <typename T>
void rasterize_forward(const RasterArgs<T>& args, uint64_t* keys, int32_t* large, uint64_t stream);
template <typename T>
void rasterize_backward(const RasterArgs<T>& args, const RasterGrads<T>& grads, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
