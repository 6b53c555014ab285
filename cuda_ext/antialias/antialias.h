// Blends neighbouring pixels where an outline runs between their centres, in proportion to where it crosses: the
// picture then changes smoothly, and differentiably, with the vertices of the outline. (The idea is nvdiffrast's:
// Laine et al., "Modular Primitives for High-Performance Differentiable Rendering", 2020, section 3.4.)
//
// Outlines are the edges of one face, and those between a face that looks at the camera and one that looks away. Each
// names the neighbouring pixels between whose centres it passes: in a row where it is steep, in a column where it is
// flat, so that no crossing counts twice. It is visible there if the nearer of the two surfaces, followed from its
// pixel's centre towards the other's from face to face, ends at this edge. With E the edge's function (rasterize.h) at
// the two centres, the crossing lies at d = E_near / (E_near - E_far). Below 1/2 the far side covers (1/2 - d) of the
// near pixel, above it the near side covers (d - 1/2) of the far one.
#pragma once
#include "common/hd.h"
#include "common/isa.h"
#include "rasterize/rasterize.h"

namespace avatar3d {

constexpr int kOutlineSteps = 64;  // faces that are followed from a pixel to the outline

enum Facing : uint8_t { kTowards = 0, kAway = 1, kEdgeOn = 2 };

template <typename T>
struct AntialiasArgs {
    const T* image;             // [b, h, w, c]
    const int32_t* triangle;    // [b, h, w]
    const T* depth;             // [b, h, w]
    const T* points;            // [b, v, 3] homogeneous pixels
    const int32_t* faces;       // [f, 3]
    const int32_t* neighbours;  // [f, 3] face across the edge that lies opposite to each corner, -1 for none
    int64_t b, v, f, c;
    int32_t height, width;
    T near;                     // as for rasterize
    uint8_t* facing;            // scratch [b, f]
    T* out;                     // [b, h, w, c]
};

template <typename T>
struct AntialiasGrads {
    const T* grad_out;  // [b, h, w, c]
    T* grad_image;      // [b, h, w, c]
    T* grad_points;     // [b, v, 3], zeroed by the caller
};

struct Crossing {
    int64_t receiver, other;  // pixels: out[receiver] += weight (image[other] - image[receiver])
    double weight, slope;     // slope: d weight / d d
    double d_near, d_far;     // d d / d E at the two centres
    double near[2], far[2];   // the centres
    int32_t from, to;         // the outline's vertices
};

template <typename T>
AVATAR3D_HD Facing facing_of(const AntialiasArgs<T>& a, int64_t image, int64_t face) {
    TriangleEdges edges;
    if (!triangle_edges(a.points + image * a.v * 3, a.faces + face * 3, edges)) return kEdgeOn;
    return edges.away ? kAway : kTowards;
}

// Whether edge i of a face is part of the outline.
template <typename T>
AVATAR3D_HD bool is_outline(const AntialiasArgs<T>& a, int64_t image, int64_t face, int i) {
    const int32_t other = a.neighbours[face * 3 + i];
    const uint8_t* facing = a.facing + image * a.f;
    return other < 0 || facing[face] != facing[other];
}

// Follows the surface seen at pixel (x, y), or at its right or lower neighbour, to the outline between their centres,
// and tells whether that is edge `which` of `owner`.
template <typename T>
AVATAR3D_HD bool find_crossing(const AntialiasArgs<T>& a, int64_t image, int32_t x, int32_t y, bool down, int32_t owner,
                               int which, Crossing& out) {
    const int64_t first = (image * a.height + y) * a.width + x, second = first + (down ? a.width : 1);
    const int32_t t_first = a.triangle[first], t_second = a.triangle[second];
    if (t_first == t_second) return false;
    const bool first_nearer = t_first >= 0 && (t_second < 0 || a.depth[first] <= a.depth[second]);
    int32_t face = first_nearer ? t_first : t_second;
    const int32_t far_face = first_nearer ? t_second : t_first;
    const double here[2] = {x + 0.5, y + 0.5}, there[2] = {x + (down ? 0.5 : 1.5), y + (down ? 1.5 : 0.5)};
    for (int c = 0; c < 2; ++c) {
        out.near[c] = first_nearer ? here[c] : there[c];
        out.far[c] = first_nearer ? there[c] : here[c];
    }
    int32_t came_from = -2;
    for (int step = 0; step < kOutlineSteps; ++step) {
        TriangleEdges edges;
        if (!triangle_edges(a.points + image * a.v * 3, a.faces + int64_t(face) * 3, edges)) return false;
        int exit = -1;
        double d = 2, E_near = 0, E_far = 0;
        for (int i = 0; i < 3; ++i) {
            if (a.neighbours[int64_t(face) * 3 + i] == came_from) continue;
            const double* n = edges.n[i];
            const double En = n[0] * out.near[0] + (n[1] * out.near[1] + n[2]);
            const double Ef = n[0] * out.far[0] + (n[1] * out.far[1] + n[2]);
            if (!(Ef < 0) || !(En >= 0)) continue;
            const double at = En / (En - Ef);
            if (at < d) {
                d = at;
                E_near = En;
                E_far = Ef;
                exit = i;
            }
        }
        if (exit < 0) return false;  // the surface goes on beyond the far centre
        if (!is_outline(a, image, face, exit)) {
            came_from = face;
            face = a.neighbours[int64_t(face) * 3 + exit];
            if (face == far_face) return false;
            continue;
        }
        const int32_t across = a.neighbours[int64_t(owner) * 3 + which];
        out.from = a.faces[int64_t(face) * 3 + (exit + 1) % 3];
        out.to = a.faces[int64_t(face) * 3 + (exit + 2) % 3];
        const int32_t from = a.faces[int64_t(owner) * 3 + (which + 1) % 3], to = a.faces[int64_t(owner) * 3 + (which + 2) % 3];
        if (face == owner ? exit != which : face != across || !((out.from == from && out.to == to) || (out.from == to && out.to == from)))
            return false;
        const bool near_receives = d < 0.5;
        out.receiver = near_receives == first_nearer ? first : second;
        out.other = near_receives == first_nearer ? second : first;
        out.weight = near_receives ? 0.5 - d : d - 0.5;
        out.slope = near_receives ? -1.0 : 1.0;
        const double span = E_near - E_far;
        const double sign = edges.away ? 1.0 : -1.0;  // edges.n is oriented, q_from x q_to is not
        out.d_near = -E_far / (span * span) * sign;
        out.d_far = E_near / (span * span) * sign;
        return true;
    }
    return false;
}

// Calls visit(crossing) for every place where edge i of a face, if it is an outline, passes between two pixels.
template <typename T, typename F>
AVATAR3D_HD void each_crossing(const AntialiasArgs<T>& a, int64_t image, int32_t face, int i, F&& visit) {
    const int32_t across = a.neighbours[int64_t(face) * 3 + i];
    if ((across >= 0 && across < face) || !is_outline(a, image, face, i)) return;
    const T* points = a.points + image * a.v * 3;
    double q[2][3], n[3], p[2][2];
    for (int k = 0; k < 2; ++k)
        for (int c = 0; c < 3; ++c) q[k][c] = double(points[int64_t(a.faces[int64_t(face) * 3 + (i + 1 + k) % 3]) * 3 + c]);
    const double near = double(a.near);
    for (int k = 0; k < 2; ++k)
        for (int c = 0; c < 3; ++c)
            if (!(q[k][c] < kRasterLimit && q[k][c] > -kRasterLimit)) return;
    if (q[0][2] < near && q[1][2] < near) return;
    for (int k = 0; k < 2; ++k) {
        const double *u = q[k], *w = q[1 - k];
        const double s = u[2] < near ? (near - u[2]) / (w[2] - u[2]) : 0.0;
        for (int c = 0; c < 2; ++c) p[k][c] = (u[c] + s * (w[c] - u[c])) / (u[2] < near ? near : u[2]);
    }
    cross(q[0], q[1], n);
    const bool down = (n[0] < 0 ? -n[0] : n[0]) < (n[1] < 0 ? -n[1] : n[1]);  // flat: pairs of one column
    const int along = down ? 0 : 1, sideways = 1 - along;
    const double slack = 1e-6;  // what is named in vain is not found
    double lo = p[0][along] < p[1][along] ? p[0][along] : p[1][along], hi = p[0][along] + p[1][along] - lo;
    lo -= 0.5 + slack;
    hi -= 0.5 - slack;
    const int32_t lines = down ? a.width : a.height, length = down ? a.height : a.width;
    if (n[sideways] == 0 || hi < 0 || lo > lines - 1) return;
    int32_t line = lo <= 0 ? 0 : int32_t(lo) + (double(int32_t(lo)) < lo);
    const int32_t last = hi >= lines - 1 ? lines - 1 : int32_t(hi);
    for (; line <= last; ++line) {
        const double at = -(n[along] * (line + 0.5) + n[2]) / n[sideways] - 0.5;
        if (!(at > -1 && at < length)) continue;
        const int32_t low = int32_t(at - slack + 1) - 1, high = int32_t(at + slack + 1) - 1;  // floor, from -1
        for (int32_t k = low < 0 ? 0 : low; k <= high && k + 1 < length; ++k) {
            Crossing found;
            if (find_crossing(a, image, down ? line : k, down ? k : line, down, face, i, found)) visit(found);
        }
    }
}

// Cotangents of the outline's two vertices, given that of the weight: E = P . (q_from x q_to).
template <typename T>
AVATAR3D_HD void crossing_gradient(const T* points, const Crossing& k, double grad_weight, double* grad_from, double* grad_to) {
    double qf[3], qt[3], P[3] = {0, 0, 0};
    const double g = grad_weight * k.slope;
    for (int c = 0; c < 3; ++c) {
        qf[c] = double(points[int64_t(k.from) * 3 + c]);
        qt[c] = double(points[int64_t(k.to) * 3 + c]);
    }
    for (int c = 0; c < 2; ++c) P[c] = g * (k.d_near * k.near[c] + k.d_far * k.far[c]);
    P[2] = g * (k.d_near + k.d_far);
    cross(qt, P, grad_from);
    cross(P, qf, grad_to);
}

AVATAR3D_DECLARE_CPU(template <typename T> void antialias_forward(const AntialiasArgs<T>& args, int threads);
                     template <typename T> void antialias_backward(const AntialiasArgs<T>& args,
                                                                   const AntialiasGrads<T>& grads, int threads);)

namespace cuda {
template <typename T>
void antialias_forward(const AntialiasArgs<T>& args, uint64_t stream);
template <typename T>
void antialias_backward(const AntialiasArgs<T>& args, const AntialiasGrads<T>& grads, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
