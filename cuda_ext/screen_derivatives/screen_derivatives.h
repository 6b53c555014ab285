// How a pixel's barycentrics change from pixel to pixel along its triangle: with b_i = E_i / S, S = sum(E) and n_i as in
// rasterize.h, db_i/dx = (n_i.x - b_i sum(n).x) / S, and the same for y.
#pragma once
#include "common/hd.h"
#include "common/isa.h"
#include "rasterize/rasterize.h"

namespace avatar3d {

template <typename T>
struct DerivativeArgs {
    const T* points;          // [b, v, 3] homogeneous pixels
    const int32_t* faces;     // [f, 3]
    const int32_t* triangle;  // [b, h, w]
    const T* barycentrics;    // [b, h, w, 3]
    const T* depth;           // [b, h, w]
    int64_t b, v, f, pixels;  // pixels of one image
    T* out;                   // [2, b, h, w, 3]: to the right, and down
};

template <typename T>
AVATAR3D_HD void derivatives_of_pixel(const DerivativeArgs<T>& a, int64_t i) {
    T *dx = a.out + i * 3, *dy = a.out + (a.b * a.pixels + i) * 3;
    for (int k = 0; k < 3; ++k) dx[k] = dy[k] = T(0);
    TriangleEdges s;
    if (a.triangle[i] < 0 ||
        !triangle_edges(a.points + i / a.pixels * a.v * 3, a.faces + int64_t(a.triangle[i]) * 3, s))
        return;
    const double inverse = double(a.depth[i]) / s.det;  // 1 / S, since depth = det / S
    const double Nx = s.n[0][0] + s.n[1][0] + s.n[2][0], Ny = s.n[0][1] + s.n[1][1] + s.n[2][1];
    for (int k = 0; k < 3; ++k) {
        dx[k] = T((s.n[k][0] - a.barycentrics[i * 3 + k] * Nx) * inverse);
        dy[k] = T((s.n[k][1] - a.barycentrics[i * 3 + k] * Ny) * inverse);
    }
}

AVATAR3D_DECLARE_CPU(template <typename T> void screen_derivatives_forward(const DerivativeArgs<T>& args, int threads);)

namespace cuda {
template <typename T>
void screen_derivatives_forward(const DerivativeArgs<T>& args, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
