// Sixteen numbers side by side, and masks of sixteen: one zmm register of floats on AVX-512, two ymm on AVX2, four of
// SSE or NEON elsewhere, and twice as many for doubles. Include from *_cpu.cpp only, inside no namespace.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __AVX512F__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own header
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#define AVATAR3D_INLINE inline __attribute__((always_inline))

namespace avatar3d {
namespace AVATAR3D_ISA {

constexpr int kPack = 16;

#if defined(__AVX512F__)
constexpr int kPackBytes = 64;
#elif defined(__AVX__)
constexpr int kPackBytes = 32;
#else
constexpr int kPackBytes = 16;
#endif

// All bits of a lane are set where it is true.
template <typename T>
struct PackMask {
    using Integer = typename std::conditional<sizeof(T) == 4, int32_t, int64_t>::type;
    typedef Integer M __attribute__((vector_size(kPackBytes)));
    static constexpr int lanes = kPackBytes / int(sizeof(T)), parts = kPack / lanes;
    M m[parts];

    bool operator[](int i) const { return m[i / lanes][i % lanes] != 0; }
};

template <typename T>
struct Pack {
    using Integer = typename PackMask<T>::Integer;
    typedef T V __attribute__((vector_size(kPackBytes)));
    typedef typename PackMask<T>::M M;
    static constexpr int lanes = PackMask<T>::lanes, parts = PackMask<T>::parts;
    V v[parts];

    Pack() = default;
    AVATAR3D_INLINE explicit Pack(double s) : Pack(T(s), 0) {}
    AVATAR3D_INLINE explicit Pack(float s) : Pack(T(s), 0) {}
    static AVATAR3D_INLINE Pack load(const T* p) {
        Pack a;
        for (int i = 0; i < parts; ++i) std::memcpy(&a.v[i], p + i * lanes, kPackBytes);  // as a whole it goes in 16 bytes
        return a;
    }
    AVATAR3D_INLINE void store(T* p) const {
        for (int i = 0; i < parts; ++i) std::memcpy(p + i * lanes, &v[i], kPackBytes);
    }
    T operator[](int i) const { return v[i / lanes][i % lanes]; }

   private:
    AVATAR3D_INLINE Pack(T s, int) {
        for (int i = 0; i < parts; ++i) v[i] = s - V{};
    }
};

#define AVATAR3D_PACK_OPERATOR(op)                                       \
    template <typename T>                                                \
    AVATAR3D_INLINE Pack<T> operator op(const Pack<T>& a, const Pack<T>& b) { \
        Pack<T> c;                                                       \
        for (int i = 0; i < c.parts; ++i) c.v[i] = a.v[i] op b.v[i];     \
        return c;                                                        \
    }
AVATAR3D_PACK_OPERATOR(+)
AVATAR3D_PACK_OPERATOR(-)
AVATAR3D_PACK_OPERATOR(*)
AVATAR3D_PACK_OPERATOR(/)
#undef AVATAR3D_PACK_OPERATOR

#define AVATAR3D_PACK_COMPARISON(op)                                         \
    template <typename T>                                                    \
    AVATAR3D_INLINE PackMask<T> operator op(const Pack<T>& a, const Pack<T>& b) { \
        PackMask<T> c;                                                       \
        for (int i = 0; i < c.parts; ++i) c.m[i] = a.v[i] op b.v[i];         \
        return c;                                                            \
    }
AVATAR3D_PACK_COMPARISON(<)
AVATAR3D_PACK_COMPARISON(<=)
AVATAR3D_PACK_COMPARISON(>)
AVATAR3D_PACK_COMPARISON(>=)
AVATAR3D_PACK_COMPARISON(==)
#undef AVATAR3D_PACK_COMPARISON

template <typename T>
AVATAR3D_INLINE Pack<T> operator-(const Pack<T>& a) {
    Pack<T> c;
    for (int i = 0; i < c.parts; ++i) c.v[i] = -a.v[i];
    return c;
}
template <typename T>
AVATAR3D_INLINE PackMask<T> operator&(const PackMask<T>& a, const PackMask<T>& b) {
    PackMask<T> c;
    for (int i = 0; i < c.parts; ++i) c.m[i] = a.m[i] & b.m[i];
    return c;
}
template <typename T>
AVATAR3D_INLINE Pack<T> select(const PackMask<T>& m, const Pack<T>& a, const Pack<T>& b) {
    Pack<T> c;
    for (int i = 0; i < c.parts; ++i) c.v[i] = m.m[i] ? a.v[i] : b.v[i];
    return c;
}
// One bit per lane.
template <typename T>
AVATAR3D_INLINE unsigned bits(const PackMask<T>& m) {
    unsigned b = 0;
    for (int i = 0; i < kPack; ++i) b |= unsigned(m[i]) << i;
    return b;
}
template <typename T>
AVATAR3D_INLINE bool any(const PackMask<T>& m) {
    auto all = m.m[0];
    for (int i = 1; i < m.parts; ++i) all |= m.m[i];
    uint64_t words[kPackBytes / 8], word = 0;
    std::memcpy(words, &all, kPackBytes);
    for (const uint64_t w : words) word |= w;
    return word != 0;
}
template <typename T>
AVATAR3D_INLINE Pack<T> least(const Pack<T>& a, const Pack<T>& b) {
    return select(a < b, a, b);
}
template <typename T>
AVATAR3D_INLINE Pack<T> most(const Pack<T>& a, const Pack<T>& b) {
    return select(a > b, a, b);
}
template <typename T>
AVATAR3D_INLINE Pack<T> multiply_add(const Pack<T>& a, const Pack<T>& b, const Pack<T>& c) {
    Pack<T> d;
    for (int i = 0; i < d.parts; ++i) d.v[i] = a.v[i] * b.v[i] + c.v[i];  // one instruction where there is one
    return d;
}
// c - a b
template <typename T>
AVATAR3D_INLINE Pack<T> take_product(const Pack<T>& c, const Pack<T>& a, const Pack<T>& b) {
    return multiply_add(-a, b, c);
}
// -|a|
template <typename T>
AVATAR3D_INLINE Pack<T> negative(const Pack<T>& a) {
    Pack<T> c;
    constexpr auto sign = typename Pack<T>::Integer(1) << (8 * sizeof(T) - 1);
    for (int i = 0; i < c.parts; ++i) c.v[i] = (typename Pack<T>::V)((typename Pack<T>::M)a.v[i] | sign);
    return c;
}
template <typename T>
AVATAR3D_INLINE Pack<T> reciprocal(const Pack<T>& a) {
    Pack<T> c;
    for (int i = 0; i < c.parts; ++i) c.v[i] = T(1) / a.v[i];
    return c;
}
template <typename T>
AVATAR3D_INLINE Pack<T> square_root(const Pack<T>& a) {
    alignas(64) T x[kPack];
    a.store(x);
    for (int i = 0; i < kPack; ++i) x[i] = std::sqrt(x[i]);
    return Pack<T>::load(x);
}
template <typename T>
AVATAR3D_INLINE Pack<T> rough_square_root(const Pack<T>& a) {
    return square_root(a);
}
template <typename T>
AVATAR3D_INLINE T sum(const Pack<T>& a) {
    T s = T(0);
    for (int i = 0; i < kPack; ++i) s += a[i];
    return s;
}

// The sums of the lanes of 16 packs; `count` says how many are asked for, out has room for 16.
template <typename T>
AVATAR3D_INLINE void sums_of(const Pack<T>* packs, int count, T* out) {
    for (int i = 0; i < count; ++i) out[i] = sum(packs[i]);
}

#ifdef __AVX512F__
template <>
struct PackMask<float> {
    __mmask16 m;

    bool operator[](int i) const { return (m >> i) & 1; }
};

template <>
struct Pack<float> {
    __m512 v;

    Pack() = default;
    AVATAR3D_INLINE Pack(__m512 x) : v(x) {}
    AVATAR3D_INLINE explicit Pack(double s) : v(_mm512_set1_ps(float(s))) {}
    AVATAR3D_INLINE explicit Pack(float s) : v(_mm512_set1_ps(s)) {}
    static AVATAR3D_INLINE Pack load(const float* p) { return _mm512_loadu_ps(p); }
    AVATAR3D_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }
    float operator[](int i) const { return v[i]; }
};

using FloatPack = Pack<float>;
AVATAR3D_INLINE FloatPack operator+(const FloatPack& a, const FloatPack& b) { return _mm512_add_ps(a.v, b.v); }
AVATAR3D_INLINE FloatPack operator-(const FloatPack& a, const FloatPack& b) { return _mm512_sub_ps(a.v, b.v); }
AVATAR3D_INLINE FloatPack operator*(const FloatPack& a, const FloatPack& b) { return _mm512_mul_ps(a.v, b.v); }
AVATAR3D_INLINE FloatPack operator/(const FloatPack& a, const FloatPack& b) { return _mm512_div_ps(a.v, b.v); }
AVATAR3D_INLINE FloatPack operator-(const FloatPack& a) { return _mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f)); }
#define AVATAR3D_PACK_COMPARISON(op, predicate)                                             \
    AVATAR3D_INLINE PackMask<float> operator op(const FloatPack& a, const FloatPack& b) {   \
        return {_mm512_cmp_ps_mask(a.v, b.v, predicate)};                                   \
    }
AVATAR3D_PACK_COMPARISON(<, _CMP_LT_OQ)
AVATAR3D_PACK_COMPARISON(<=, _CMP_LE_OQ)
AVATAR3D_PACK_COMPARISON(>, _CMP_GT_OQ)
AVATAR3D_PACK_COMPARISON(>=, _CMP_GE_OQ)
AVATAR3D_PACK_COMPARISON(==, _CMP_EQ_OQ)
#undef AVATAR3D_PACK_COMPARISON
AVATAR3D_INLINE PackMask<float> operator&(const PackMask<float>& a, const PackMask<float>& b) {
    return {__mmask16(a.m & b.m)};
}
AVATAR3D_INLINE FloatPack select(const PackMask<float>& m, const FloatPack& a, const FloatPack& b) {
    return _mm512_mask_blend_ps(m.m, b.v, a.v);
}
AVATAR3D_INLINE unsigned bits(const PackMask<float>& m) { return m.m; }
AVATAR3D_INLINE bool any(const PackMask<float>& m) { return m.m != 0; }
AVATAR3D_INLINE FloatPack least(const FloatPack& a, const FloatPack& b) { return _mm512_min_ps(a.v, b.v); }
AVATAR3D_INLINE FloatPack most(const FloatPack& a, const FloatPack& b) { return _mm512_max_ps(a.v, b.v); }
AVATAR3D_INLINE FloatPack multiply_add(const FloatPack& a, const FloatPack& b, const FloatPack& c) {
    return _mm512_fmadd_ps(a.v, b.v, c.v);
}
AVATAR3D_INLINE FloatPack take_product(const FloatPack& c, const FloatPack& a, const FloatPack& b) {
    return _mm512_fnmadd_ps(a.v, b.v, c.v);
}
AVATAR3D_INLINE FloatPack negative(const FloatPack& a) { return _mm512_or_ps(a.v, _mm512_set1_ps(-0.0f)); }
// To 1e-7.
AVATAR3D_INLINE FloatPack reciprocal(const FloatPack& a) {
    const __m512 r = _mm512_rcp14_ps(a.v);
    return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(a.v, r, _mm512_set1_ps(1.0f)), r);
}
AVATAR3D_INLINE FloatPack square_root(const FloatPack& a) { return _mm512_sqrt_ps(a.v); }
// To 6.2e-5, for positive numbers.
AVATAR3D_INLINE FloatPack rough_square_root(const FloatPack& a) { return _mm512_mul_ps(a.v, _mm512_rsqrt14_ps(a.v)); }
AVATAR3D_INLINE float sum(const FloatPack& a) { return _mm512_reduce_add_ps(a.v); }
// Halves the lanes four times, two packs in one, so that the sums end up side by side.
AVATAR3D_INLINE void sums_of(const FloatPack* packs, int count, float* out) {
    const __m512 zero = _mm512_setzero_ps();
    const auto quarters = [&](int i) {  // lanes in quarters: pack i, i + 4, i + 8, i + 12
        const __m512 a = packs[i].v, b = i + 4 < count ? packs[i + 4].v : zero;
        const __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
        if (i + 8 >= count) return _mm512_add_ps(_mm512_shuffle_f32x4(low, zero, 0x88), _mm512_shuffle_f32x4(low, zero, 0xDD));
        const __m512 c = packs[i + 8].v, d = i + 12 < count ? packs[i + 12].v : zero;
        const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
        return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xDD));
    };
    const auto pairs = [](__m512 a, __m512 b) { return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE)); };
    const __m512 a = pairs(quarters(0), quarters(1)), b = pairs(quarters(2), quarters(3));
    _mm512_storeu_ps(out, _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD)));
}
#endif

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
