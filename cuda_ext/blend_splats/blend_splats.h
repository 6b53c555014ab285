// Front-to-back blending of two-dimensional Gaussians, one pair of pixel and splat at a time, shared by C++ and CUDA.
//
// Everything is written for a "number" V: float or double where one thread does one pixel, or Pack<T> (common/pack.h)
// where one vector does sixteen. Comparisons give bool or a mask; &, | and select() work on both.
#pragma once
#include <cmath>
#include <cstdint>

#include "common/hd.h"
#include "common/isa.h"

namespace avatar3d {

constexpr double kSplatMinAlpha = 1.0 / 255;        // less is not blended
constexpr double kSplatMaxAlpha = 0.99;             // more is cut to it
constexpr double kSplatMinTransmittance = 1e-4;     // a splat that would leave less ends the pixel instead
constexpr double kSplatMinExponent = -0.99929417;   // a little under log256(1 / 255) = -0.999294171...
constexpr double kSplatCurvature = 0.09016844005556021;  // log256(e) / 2
constexpr double kSplatLog256 = 5.545177444479562;       // ln 256
constexpr int kSplatMaxSide = 32767;                // pixels

// ---- numbers ----------------------------------------------------------------------------------------------------

AVATAR3D_HD float multiply_add(float a, float b, float c) {
#if defined(__CUDACC__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return fmaf(a, b, c);
#else
    return a * b + c;
#endif
}
AVATAR3D_HD double multiply_add(double a, double b, double c) {
#if defined(__CUDACC__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return fma(a, b, c);
#else
    return a * b + c;
#endif
}
// c - a b
AVATAR3D_HD float take_product(float c, float a, float b) { return multiply_add(-a, b, c); }
AVATAR3D_HD double take_product(double c, double a, double b) { return multiply_add(-a, b, c); }
AVATAR3D_HD float least(float a, float b) { return a < b ? a : b; }
AVATAR3D_HD double least(double a, double b) { return a < b ? a : b; }
AVATAR3D_HD float most(float a, float b) { return a > b ? a : b; }
AVATAR3D_HD double most(double a, double b) { return a > b ? a : b; }
AVATAR3D_HD float select(bool m, float a, float b) { return m ? a : b; }
AVATAR3D_HD double select(bool m, double a, double b) { return m ? a : b; }
AVATAR3D_HD float negative(float a) { return -fabsf(a); }
AVATAR3D_HD double negative(double a) { return -fabs(a); }
#ifdef __CUDA_ARCH__
// One instruction each: rcp to 1 ulp, sqrt to 3 ulp, ex2 to 2 ulp.
AVATAR3D_HD float reciprocal(float a) {
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(a) : "f"(a));
    return a;
}
AVATAR3D_HD float rough_square_root(float a) {
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(a) : "f"(a));
    return a;
}
AVATAR3D_HD float power256(float a) {
    a *= 8.0f;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(a) : "f"(a));
    return a;
}
#else
AVATAR3D_HD float reciprocal(float a) { return 1.0f / a; }
AVATAR3D_HD float rough_square_root(float a) { return sqrtf(a); }  // to 6.2e-5 where that is faster
AVATAR3D_HD float power256(float a) { return exp2f(8.0f * a); }
#endif
AVATAR3D_HD double reciprocal(double a) { return 1.0 / a; }
AVATAR3D_HD float square_root(float a) { return sqrtf(a); }
AVATAR3D_HD double square_root(double a) { return sqrt(a); }
AVATAR3D_HD double rough_square_root(double a) { return sqrt(a); }
AVATAR3D_HD float log256(float a) { return 0.125f * log2f(a); }
AVATAR3D_HD double log256(double a) { return 0.125 * log2(a); }
AVATAR3D_HD double power256(double a) { return exp2(8.0 * a); }
// a c - b b, of which float would lose all digits for a needle.
AVATAR3D_HD float determinant(float a, float b, float c) { return float(double(a) * double(c) - double(b) * double(b)); }
AVATAR3D_HD double determinant(double a, double b, double c) { return a * c - b * b; }

// ---- one splat --------------------------------------------------------------------------------------------------

// A splat in coordinates in which its exponent is a sum of squares. At d = pixel centre - (x, y):
//   alpha = 256^(level - u^2 - v^2),  u = p dx + q dy,  v = r dy,  level = log256(opacity)
// which is opacity exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2) without its cancellation. In base 256 whatever is kept has
// an exponent between -1 and 0.
template <typename V>
struct SplatShape {
    V x, y, p, q, r, level;
};

// False (or lanes that are) where the splat is not drawn: too faint, not finite, or not an ellipse.
template <typename V>
AVATAR3D_HD auto splat_shape(V x, V y, V a, V b, V c, V opacity, SplatShape<V>& s) -> decltype(a > a) {
    const V det = determinant(a, b, c), zero = V(0.0), curvature = V(kSplatCurvature);
    s.x = x;
    s.y = y;
    s.p = square_root(a * curvature);
    s.q = b / a * s.p;
    s.r = square_root(det / a * curvature);
    s.level = log256(opacity);
    const V nothing = ((x - x) + (y - y)) + ((a - a) + (b - b)) + ((c - c) + (opacity - opacity));  // NaN for infinity
    return (nothing == zero) & (opacity >= V(kSplatMinAlpha)) & (a > zero) & (det > zero) & (s.p > zero) & (s.r > zero);
}

// Where the splat is kept: u^2 + v^2 <= reach^2. Everything errs outwards, by 1e-4 of the size and by
// kSplatSlack pixels, since the test that counts is the one at every pixel.
constexpr double kSplatSlack = 0.01;

template <typename V>
struct SplatExtent {
    V reach;
    V turn;                     // v of the rightmost point; of the leftmost it is -turn
    V skew, inverse_p;          // dx = (u - skew v) inverse_p
};

template <typename V>
AVATAR3D_HD SplatExtent<V> splat_extent(const SplatShape<V>& s) {
    SplatExtent<V> e;
    e.reach = square_root(most(s.level - V(kSplatMinExponent), V(0.0))) * V(1.0001);
    e.turn = -e.reach * s.q / square_root(s.q * s.q + s.r * s.r);
    e.skew = s.q / s.r;
    e.inverse_p = reciprocal(s.p);
    return e;
}

// Half the width and height of the box around it, pixels.
template <typename V>
AVATAR3D_HD V splat_half_width(const SplatShape<V>& s, const SplatExtent<V>& e) {
    return e.reach * square_root(s.q * s.q + s.r * s.r) / s.r * e.inverse_p + V(kSplatSlack);
}
template <typename V>
AVATAR3D_HD V splat_half_height(const SplatShape<V>& s, const SplatExtent<V>& e) {
    return e.reach / s.r + V(kSplatSlack);
}

// How far it reaches to the right (side = 1) or left (side = -1) of its centre between the heights y0 <= y1, which are
// measured from its centre; kSplatNowhere where it is not between them at all.
constexpr double kSplatNowhere = -1e30;

template <typename V>
AVATAR3D_HD V splat_edge(V r, const SplatExtent<V>& e, V side, V y0, V y1) {
    const V low = most(r * (y0 - V(kSplatSlack)), -e.reach), high = least(r * (y1 + V(kSplatSlack)), e.reach);
    const V v = least(most(e.turn * side, low), high);
    const V room = most(e.reach * e.reach - v * v, V(1e-20));
    const V edge = (rough_square_root(room) - e.skew * v * side) * e.inverse_p + V(kSplatSlack);
    return select(low > high, V(kSplatNowhere), select(edge < V(1e9), edge, V(1e9)));  // NaN: as far as it gets
}

// ---- one pair ---------------------------------------------------------------------------------------------------

// Exponent at the pixel centre (x, y), which with u0 and v0 is measured from a corner of choice:
//   u0 = p (corner - splat).x + q (corner - splat).y,  v0 = r (corner - splat).y
template <typename V>
AVATAR3D_HD V splat_exponent(V p, V q, V r, V level, V u0, V v0, V x, V y, V& u, V& v) {
    u = multiply_add(p, x, multiply_add(q, y, u0));
    v = multiply_add(r, y, v0);
    return take_product(take_product(level, u, u), v, v);
}

// Its alpha before it is cut; 0 where it is too little to be blended.
template <typename V>
AVATAR3D_HD V splat_alpha(V exponent) {
    return select(exponent >= V(kSplatMinExponent), power256(exponent), V(0.0));
}

// Blends one splat into one pixel. A pixel that has ended keeps its transmittance with the sign turned: once negative
// it takes nothing more. `weight` (alpha times transmittance) is 0 where nothing is blended. Returns where the pixel has
// not ended with this splat or before.
template <typename V>
AVATAR3D_HD auto blend_alpha(V alpha, V& transmittance, V& weight) -> decltype(alpha > alpha) {
    const V taken = least(alpha, V(kSplatMaxAlpha)) * transmittance;
    const V rest = transmittance - taken;
    const auto open = rest >= V(kSplatMinTransmittance);
    transmittance = select(open, rest, negative(transmittance));
    weight = select(open, taken, V(0.0));
    return open;
}

// The same from the exponent; returns where the splat was blended.
template <typename V>
AVATAR3D_HD auto blend_step(V exponent, V& transmittance, V& weight) -> decltype(exponent > exponent) {
    return blend_alpha(splat_alpha(exponent), transmittance, weight) & (exponent >= V(kSplatMinExponent));
}

// The same pair on the way back, last splat first; alpha is 0 where nothing was blended. `transmittance` goes from
// behind the splat to before it; `behind` is what one would see beyond the splat, as seen through the gradient:
// sum_c gradient_c colour_c of everything behind it, over the transmittance that reaches it; it starts with that of the
// background. `seen` is the splat's own sum_c gradient_c attribute_c. Gives the weight of the splat, and
// alpha dL/dalpha (0 where alpha is cut).
template <typename V>
AVATAR3D_HD void blend_alpha_back(V alpha, V seen, V& transmittance, V& behind, V& weight, V& slope) {
    const V cut = least(alpha, V(kSplatMaxAlpha)), difference = seen - behind;
    transmittance = transmittance * reciprocal(V(1.0) - cut);
    weight = cut * transmittance;
    behind = multiply_add(cut, difference, behind);
    slope = select(alpha <= V(kSplatMaxAlpha), weight * difference, V(0.0));
}

template <typename V, typename M>
AVATAR3D_HD void blend_step_back(V exponent, M blended, V seen, V& transmittance, V& behind, V& weight, V& slope) {
    blend_alpha_back(select(blended, power256(exponent), V(0.0)), seen, transmittance, behind, weight, slope);
}

// What a splat gathers from its pixels, and what its gradients are made of; s = alpha dL/dalpha.
template <typename V>
struct SplatMoments {
    V s, su, sv, suu, suv, svv;
    V absolute_x, absolute_y;  // |s u|, |s (q u + r v)|
};

// Gradients of (x, y), the conic (a, b, c) and opacity, from the sums of the moments over pixels.
template <typename V>
struct SplatGradient {
    V x, y, a, b, c, opacity, absolute_x, absolute_y;
};

template <typename V>
AVATAR3D_HD SplatGradient<V> splat_gradient(V p, V q, V r, V opacity, const SplatMoments<V>& m) {
    SplatGradient<V> g;
    const V ln256 = V(kSplatLog256), half = V(0.5), two = V(2.0);
    g.x = two * ln256 * p * m.su;
    g.y = two * ln256 * (q * m.su + r * m.sv);
    const V inverse_p = reciprocal(p), inverse_r = reciprocal(r), k = q * inverse_r;
    g.a = -half * ((m.suu - k * (two * m.suv - k * m.svv)) * inverse_p) * inverse_p;
    g.b = -((m.suv - k * m.svv) * inverse_p) * inverse_r;
    g.c = -half * (m.svv * inverse_r) * inverse_r;
    g.opacity = m.s / opacity;
    g.absolute_x = two * ln256 * p * m.absolute_x;
    g.absolute_y = two * ln256 * m.absolute_y;
    return g;
}

// ---- arguments --------------------------------------------------------------------------------------------------

template <typename T>
struct BlendArgs {
    const T* pixels;      // [b, n, 2]
    const T* conics;      // [b, n, 3]
    const T* opacities;   // [b, n]
    const T* depths;      // [b, n]
    const T* attributes;  // [attribute_images, n, c]
    const T* background;  // [background_images, c], or null for 0
    int64_t b, n, c, attribute_images, background_images;
    int32_t width, height;
};

template <typename T>
struct BlendImages {
    T* image;          // [b, h, w, c]
    T* alpha;          // [b, h, w]
    // [b tiles, pixels of a tile] in an order of its own; null where no gradients will be asked for
    T* transmittance;
    int32_t* last;  // one more than the place of the last splat in its tile's list that was blended
};

template <typename T>
struct BlendGrads {
    const T* grad_image;      // [b, h, w, c]
    const T* grad_alpha;      // [b, h, w], in C++ null for 0
    const T* transmittance;   // as the forward pass left them
    const int32_t* last;
    T* pixels;                // [b, n, 2]
    T* conics;                // [b, n, 3]
    T* opacities;             // [b, n]
    T* attributes;            // [attribute_images, n, c]
    T* background;            // [background_images, c], or null
    T* absolute;              // [b, n, 2], or null
};

// ---- C++ --------------------------------------------------------------------------------------------------------

constexpr int kSplatTile = 32;    // pixels
constexpr int kSplatBlock = 4;    // pixels: one vector of 16 is a block of 4 x 4, a tile 8 x 8 blocks
constexpr int kSplatChunks = 16;  // of the splats of one image, for counting

// What is kept for every splat; `slot` is where its intersections begin.
template <typename T>
struct SplatRecord {
    SplatShape<T> shape;
    SplatExtent<T> extent;
    T attributes[4];  // the first four, for when there are no more
    int32_t slot, count;
};

// A splat that reaches a tile. Those of a tile lie together in order of depth.
struct SplatIntersection {
    int32_t splat;    // b n + i
    int32_t slot;     // where its gradient goes: slots of one splat lie together
    uint64_t blocks;  // the tile's blocks that it reached before they were full
};

// The tiles that a splat reaches: those set in `cells`, 8 to a row from (x, y); all is looked up again where it is wide.
struct SplatBox {
    int16_t x, y, columns, rows;
    uint64_t cells;
};

struct BlendScratch {
    void* splats;                      // [b n] SplatRecord<T>
    SplatBox* boxes;                   // [b n]
    int32_t* counts;                   // [b, kSplatChunks, tiles]
    SplatIntersection* intersections;  // as many as blend_splats_count found
    int64_t* tiles;                    // [b tiles + 1], where every tile's list begins
};

AVATAR3D_DECLARE_CPU(
    // Fills splats, boxes and counts; total is the number of intersections.
    template <typename T> void blend_splats_count(const BlendArgs<T>&, const BlendScratch&, int64_t* total, int threads);
    template <typename T> void blend_splats_forward(const BlendArgs<T>&, const BlendScratch&, const BlendImages<T>&, int threads);
    // gradients: [intersections, blend_splats_stride(c)]
    template <typename T> void blend_splats_backward(const BlendArgs<T>&, const BlendScratch&, const BlendGrads<T>&, T* gradients, int threads);)

// Numbers of one intersection's gradient: eight moments, then the attributes, in fours.
inline int64_t blend_splats_stride(int64_t c) { return 8 + (c + 3) / 4 * 4; }

}  // namespace avatar3d
