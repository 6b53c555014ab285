// The nearest point of a triangle mesh. Triangles lie in the leaves of a complete tree, 16 to a leaf and 16 children to
// a node, so that one vector, or half a warp, looks at a whole node: its shape follows from the number of faces, and
// no pointers are kept.
//
// A triangle's nearest point is the best of four: the foot of the perpendicular, where it lies inside, and the nearest
// points of the three edges. So degenerate triangles need no care. Shares come from vectors made in double, so that
// they are as exact off a thin triangle's short edge as off its long ones.
#pragma once
#include <cmath>

#include "common/hd.h"
#include "common/isa.h"

namespace avatar3d {

constexpr int kTreeWidth = 16;
constexpr int kMostLevels = 8;  // 16^8 faces
// Of a face: 0 a, 3 b - a, 6 c - a; 9, 12, 15 the vectors whose products with p - a are the shares of b, of c, and of
// both together; 18 the unit normal; 21 the square of the inscribed circle's radius (-inf where there is no area);
// 22, 23, 24 1 / length^2 of the edges ab, ac and bc (0 for none).
constexpr int kFaceNumbers = 25;

template <typename T>
struct FaceTree {
    const T* boxes;       // [b, nodes, 6, 16] least and largest corner of every child; children that are not: inf, -inf
    const T* leaves;      // [b, leaves, 25, 16]
    const int32_t* ids;   // [b, leaves, 16], ascending in a leaf; -1 for none
};

template <typename T>
struct NearestArgs {
    const T* points;        // [b, n, 3]
    const T* vertices;      // [b, v, 3]
    const int32_t* faces;   // [f, 3]
    int64_t b, n, v, f;
    FaceTree<T> tree;
    T* nearest;             // [b, n, 3]
    int32_t* face;          // [b, n], -1 for none
    T* barycentrics;        // [b, n, 3]
    T* distance;            // [b, n]
};

// Nodes by level: level 1 holds the leaves' parents, the last level the root alone. Node i of a level has children
// 16 i.. of the level below.
struct TreeShape {
    int32_t leaves, levels, nodes;   // there is room for `nodes`: so many at least, by a formula without a loop
    int32_t first[kMostLevels + 1];  // of the level's nodes, by level; [0] is not used

    AVATAR3D_HD explicit TreeShape(int64_t faces) : leaves(int32_t((faces + kTreeWidth - 1) / kTreeWidth)), levels(0), nodes(leaves / (kTreeWidth - 1) + kMostLevels) {
        int32_t next = 0;
        for (int32_t count = leaves; levels == 0 || count > 1;) {
            count = (count + kTreeWidth - 1) / kTreeWidth;
            first[++levels] = next;
            next += count;
        }
    }
};

// Squared distance from one face; T the scalar, V it or a vector of it. `k` gives the face's numbers.
template <typename T, typename V, typename Get>
AVATAR3D_HD V face_distance(V px, V py, V pz, Get&& k) {
    const V x = px - k(0), y = py - k(1), z = pz - k(2);
    const V abx = k(3), aby = k(4), abz = k(5), acx = k(6), acy = k(7), acz = k(8);
    const auto square = [](V u, V v, V w) { return u * u + v * v + w * w; };
    const auto along = [](V t) { return t > T(0) ? (t < T(1) ? t : V{} + T(1)) : V{}; };
    const V s = along((abx * x + aby * y + abz * z) * k(22));
    V best = square(x - s * abx, y - s * aby, z - s * abz);
    const V t = along((acx * x + acy * y + acz * z) * k(23));
    const V second = square(x - t * acx, y - t * acy, z - t * acz);
    best = second < best ? second : best;
    const V bx = x - abx, by = y - aby, bz = z - abz, bcx = acx - abx, bcy = acy - aby, bcz = acz - abz;
    const V r = along((bcx * bx + bcy * by + bcz * bz) * k(24));
    const V third = square(bx - r * bcx, by - r * bcy, bz - r * bcz);
    best = third < best ? third : best;
    const V v = x * k(9) + y * k(10) + z * k(11), w = x * k(12) + y * k(13) + z * k(14);
    const V height = x * k(18) + y * k(19) + z * k(20), off_edges = best - k(21);
    V foot = height * height;  // of a sliver the normal is vague: no point is farther from all edges than the radius
    foot = foot < off_edges ? off_edges : foot;
    return (v >= T(0)) & (w >= T(0)) & (x * k(15) + y * k(16) + z * k(17) <= T(1)) & (foot < best) ? foot : best;
}

// Squared distance from the box [low, high], a little less than it is, so that rounding hides nothing.
template <typename T, typename V, typename Get>
AVATAR3D_HD V box_distance(V px, V py, V pz, Get&& k) {
    const auto beyond = [](V p, V low, V high) {
        const V below = low - p, above = p - high, most = below > above ? below : above;
        return most > T(0) ? most : V{};
    };
    const V x = beyond(px, k(0), k(3)), y = beyond(py, k(1), k(4)), z = beyond(pz, k(2), k(5));
    return (x * x + y * y + z * z) * (sizeof(T) == 4 ? T(1 - 1e-6) : T(1 - 1e-14));
}

AVATAR3D_HD double dot3(const double* a, const double* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

AVATAR3D_HD void cross_product(const double* a, const double* b, double* out) {
    for (int i = 0; i < 3; ++i) {
        const int j = (i + 1) % 3, k = (i + 2) % 3;
        out[i] = a[j] * b[k] - a[k] * b[j];
    }
}

// The vectors whose products with p - a are the shares of b and c in the foot of p's perpendicular.
AVATAR3D_HD void dual_vectors(const double* ab, const double* ac, double* for_b, double* for_c) {
    double n[3];
    cross_product(ab, ac, n);
    const double square = dot3(n, n), inverse = square > 0 ? 1 / square : 0;
    cross_product(ac, n, for_b);
    cross_product(n, ab, for_c);
    for (int i = 0; i < 3; ++i) for_b[i] *= inverse, for_c[i] *= inverse;
}

// Shares of the corners in a triangle's nearest point to p.
AVATAR3D_HD void closest_on_face(const double* p, const double corners[3][3], double* shares) {
    double ab[3], ac[3], ap[3], for_b[3], for_c[3], best = -1;
    for (int i = 0; i < 3; ++i) {
        ab[i] = corners[1][i] - corners[0][i];
        ac[i] = corners[2][i] - corners[0][i];
        ap[i] = p[i] - corners[0][i];
    }
    dual_vectors(ab, ac, for_b, for_c);
    const auto propose = [&](double v, double w) {
        double r[3];
        for (int i = 0; i < 3; ++i) r[i] = ap[i] - v * ab[i] - w * ac[i];
        const double square = dot3(r, r);
        if (best >= 0 && !(square < best)) return;
        best = square;
        shares[0] = 1 - v - w < 0 ? 0 : 1 - v - w, shares[1] = v, shares[2] = w;
    };
    const auto along = [](double t, double square) { return !(t > 0) || !(square > 0) ? 0.0 : t < square ? t / square : 1.0; };
    double bc[3], bp[3];
    for (int i = 0; i < 3; ++i) bc[i] = ac[i] - ab[i], bp[i] = ap[i] - ab[i];
    propose(along(dot3(ab, ap), dot3(ab, ab)), 0);
    propose(0, along(dot3(ac, ap), dot3(ac, ac)));
    const double t = along(dot3(bc, bp), dot3(bc, bc));
    propose(1 - t, t);
    const double v = dot3(ap, for_b), w = dot3(ap, for_c);
    if (v >= 0 && w >= 0 && v + w <= 1) propose(v, w);
}

// Writes one query's result, computed in double whatever the search was made in.
template <typename T>
AVATAR3D_HD void write_nearest(const NearestArgs<T>& a, int64_t image, int64_t i, int32_t face) {
    const int64_t at = image * a.n + i;
    double shares[3] = {NAN, NAN, NAN}, nearest[3] = {NAN, NAN, NAN}, difference[3] = {NAN, NAN, NAN};
    if (face >= 0) {
        double corners[3][3], p[3];
        for (int c = 0; c < 3; ++c) {
            p[c] = double(a.points[at * 3 + c]);
            for (int k = 0; k < 3; ++k)
                corners[k][c] = double(a.vertices[(image * a.v + a.faces[int64_t(face) * 3 + k]) * 3 + c]);
        }
        closest_on_face(p, corners, shares);
        for (int c = 0; c < 3; ++c) {
            nearest[c] = shares[0] * corners[0][c] + shares[1] * corners[1][c] + shares[2] * corners[2][c];
            difference[c] = p[c] - nearest[c];
        }
    }
    a.face[at] = face;
    a.distance[at] = T(sqrt(dot3(difference, difference)));
    for (int c = 0; c < 3; ++c) {
        a.nearest[at * 3 + c] = T(nearest[c]);
        a.barycentrics[at * 3 + c] = T(shares[c]);
    }
}

AVATAR3D_DECLARE_CPU(
    // Fills a tree of the shape that TreeShape(f) says, for vertices [b, v, 3].
    template <typename T> void face_tree(const T* vertices, const int32_t* faces, int64_t b, int64_t v, int64_t f,
                                         T* boxes, T* leaves, int32_t* ids, int threads);
    template <typename T> void nearest_on_mesh_forward(const NearestArgs<T>& args, int threads);)

namespace cuda {
template <typename T>
void nearest_on_mesh_forward(const NearestArgs<T>& args, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
