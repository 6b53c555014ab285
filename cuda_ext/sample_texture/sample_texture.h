// Bilinear and trilinear texture look-up, clamped at the edges. A texture is a pyramid, level after level in one
// array. u runs right and v up, both 0..1; row 0 of the image is the top, v = 1; texel centres lie at half integers.
#pragma once
#include "common/hd.h"
#include "common/isa.h"

namespace avatar3d {

constexpr int kMaxLevels = 16;

struct Pyramid {
    int32_t count;
    int32_t height[kMaxLevels], width[kMaxLevels];
    int64_t offset[kMaxLevels];  // in texels
};

template <typename T>
struct TextureArgs {
    const T* texels;  // [b or 1, texels, c]
    const T* uv;      // [b, pixels, 2]
    const T* level;   // [b, pixels], or null for the finest
    Pyramid pyramid;
    int64_t b, pixels, texel_count, c;
    bool shared;      // one texture for all images
    T* out;           // [b, pixels, c]
};

template <typename T>
struct TextureGrads {
    const T* grad_out;  // [b, pixels, c]
    T* grad_texels;     // [b or 1, texels, c] zeroed by the caller, or null
    T* grad_uv;         // [b, pixels, 2]
    T* grad_level;      // [b, pixels], or null
};

// Four texels of one level with their weights, and how these move with u and v.
template <typename T>
struct Taps {
    int64_t index[4];  // x0 y0, x1 y0, x0 y1, x1 y1
    int32_t y0, y1;    // rows
    T fx, fy;
    T du, dv;          // d fx / du and d fy / dv, 0 where clamped
};

template <typename T>
AVATAR3D_HD T axis_position(T s, int32_t n, T* slope) {
    const T x = s * T(n) - T(0.5);
    const bool inside = x > T(0) && x < T(n - 1);
    *slope = inside ? T(n) : T(0);
    if (inside) return x;
    return x >= T(n - 1) ? T(n - 1) : T(0);  // NaN goes to 0
}

template <typename T>
AVATAR3D_HD Taps<T> taps_of(const Pyramid& p, int level, T u, T v) {
    Taps<T> t;
    const int32_t h = p.height[level], w = p.width[level];
    const T x = axis_position(u, w, &t.du), y = axis_position(T(1) - v, h, &t.dv);
    t.dv = -t.dv;
    const int32_t x0 = int32_t(x), y0 = int32_t(y);
    const int32_t x1 = x0 + 1 < w ? x0 + 1 : x0, y1 = y0 + 1 < h ? y0 + 1 : y0;
    t.fx = x - T(x0);
    t.fy = y - T(y0);
    t.y0 = y0;
    t.y1 = y1;
    const int64_t o = p.offset[level];
    t.index[0] = o + int64_t(y0) * w + x0;
    t.index[1] = o + int64_t(y0) * w + x1;
    t.index[2] = o + int64_t(y1) * w + x0;
    t.index[3] = o + int64_t(y1) * w + x1;
    return t;
}

// Two neighbouring levels and the share of the coarser; the slope is 0 where the level is clamped.
template <typename T>
struct LevelBlend {
    int fine, coarse;
    T share, slope;
};

template <typename T>
AVATAR3D_HD LevelBlend<T> level_blend(const TextureArgs<T>& a, int64_t i) {
    if (!a.level || a.pyramid.count == 1) return {0, 0, T(0), T(0)};
    const T top = T(a.pyramid.count - 1), l = a.level[i];
    if (!(l > T(0))) return {0, 0, T(0), T(0)};
    if (l >= top) return {a.pyramid.count - 1, a.pyramid.count - 1, T(0), T(0)};
    const int fine = int(l);
    return {fine, fine + 1, l - T(fine), T(1)};
}

template <typename T>
AVATAR3D_HD T bilinear(const T* texels, const Taps<T>& t, int64_t channels, int64_t c) {
    const T a = texels[t.index[0] * channels + c], b = texels[t.index[1] * channels + c];
    const T d = texels[t.index[2] * channels + c], e = texels[t.index[3] * channels + c];
    const T top = a + t.fx * (b - a), bottom = d + t.fx * (e - d);
    return top + t.fy * (bottom - top);
}

// C: number of channels if known when compiled, else 0.
template <int C = 0, typename T>
AVATAR3D_HD void texture_pixel(const TextureArgs<T>& a, const T* texels, int64_t i) {
    const int64_t channels = C ? C : a.c;
    const LevelBlend<T> blend = level_blend(a, i);
    const Taps<T> fine = taps_of(a.pyramid, blend.fine, a.uv[i * 2], a.uv[i * 2 + 1]);
    T* out = a.out + i * channels;
    for (int64_t c = 0; c < channels; ++c) out[c] = bilinear(texels, fine, channels, c);
    if (blend.share == T(0)) return;
    const Taps<T> coarse = taps_of(a.pyramid, blend.coarse, a.uv[i * 2], a.uv[i * 2 + 1]);
    for (int64_t c = 0; c < channels; ++c) out[c] += blend.share * (bilinear(texels, coarse, channels, c) - out[c]);
}

// Adds to grad_uv what one level contributes; returns sum_c g_c value_c.
template <typename T>
AVATAR3D_HD T texture_level_grad(const T* texels, const Taps<T>& t, const T* g, int64_t channels, T share, T* grad_uv) {
    T along_x = T(0), along_y = T(0), value = T(0);
    for (int64_t c = 0; c < channels; ++c) {
        const T a = texels[t.index[0] * channels + c], b = texels[t.index[1] * channels + c];
        const T d = texels[t.index[2] * channels + c], e = texels[t.index[3] * channels + c];
        const T top = a + t.fx * (b - a), bottom = d + t.fx * (e - d);
        along_x += g[c] * ((b - a) + t.fy * ((e - d) - (b - a)));
        along_y += g[c] * (bottom - top);
        value += g[c] * (top + t.fy * (bottom - top));
    }
    grad_uv[0] += share * along_x * t.du;
    grad_uv[1] += share * along_y * t.dv;
    return value;
}

template <int C = 0, typename T>
AVATAR3D_HD void texture_coordinates_grad(const TextureArgs<T>& a, const TextureGrads<T>& g, const T* texels, int64_t i) {
    const int64_t channels = C ? C : a.c;
    const LevelBlend<T> blend = level_blend(a, i);
    const T *go = g.grad_out + i * channels, *uv = a.uv + i * 2;
    T grad[2] = {T(0), T(0)};
    const T fine = texture_level_grad(texels, taps_of(a.pyramid, blend.fine, uv[0], uv[1]), go, channels, T(1) - blend.share, grad);
    T coarse = fine;
    if (blend.coarse != blend.fine)
        coarse = texture_level_grad(texels, taps_of(a.pyramid, blend.coarse, uv[0], uv[1]), go, channels, blend.share, grad);
    g.grad_uv[i * 2] = grad[0];
    g.grad_uv[i * 2 + 1] = grad[1];
    if (g.grad_level) g.grad_level[i] = blend.slope * (coarse - fine);
}

AVATAR3D_DECLARE_CPU(template <typename T> void sample_texture_forward(const TextureArgs<T>& args, int threads);
                     template <typename T> void sample_texture_backward(const TextureArgs<T>& args,
                                                                        const TextureGrads<T>& grads, int threads);)

namespace cuda {
template <typename T>
void sample_texture_forward(const TextureArgs<T>& args, uint64_t stream);
template <typename T>
void sample_texture_backward(const TextureArgs<T>& args, const TextureGrads<T>& grads, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
