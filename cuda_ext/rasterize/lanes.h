// Vectors as wide as the instruction set's registers.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace avatar3d {
namespace AVATAR3D_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct Lanes {
    static constexpr int count = kVectorBytes / sizeof(T);
    using Integer = typename std::conditional<sizeof(T) == 4, int32_t, int64_t>::type;
    typedef T V __attribute__((vector_size(kVectorBytes)));
    typedef Integer M __attribute__((vector_size(kVectorBytes)));  // comparisons: all bits set where true

    static V load(const T* p) {
        V v;
        std::memcpy(&v, p, kVectorBytes);
        return v;
    }
    static M load(const Integer* p) {
        M v;
        std::memcpy(&v, p, kVectorBytes);
        return v;
    }
    static void store(T* p, V v) { std::memcpy(p, &v, kVectorBytes); }
    static void store(Integer* p, M v) { std::memcpy(p, &v, kVectorBytes); }
    static V all(T s) { return V{} + s; }
    static V least(V a, V b) { return a < b ? a : b; }
    static V most(V a, V b) { return a > b ? a : b; }
    static bool any(M m) {
#ifdef __AVX512F__
        __m512i bits512;
        std::memcpy(&bits512, &m, 64);
        return _mm512_test_epi32_mask(bits512, bits512) != 0;
#endif
        Integer bits = 0;
        for (int l = 0; l < count; ++l) bits |= m[l];
        return bits != 0;
    }
    // a b - c d, exactly the negative of itself when the two products are swapped.
    static V difference_of_products(V a, V b, V c, V d) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
        V r, s;
        const V cd = c * d, ab = a * b;
        for (int l = 0; l < count; ++l) r[l] = __builtin_fma(a[l], b[l], -cd[l]);
        for (int l = 0; l < count; ++l) s[l] = __builtin_fma(-c[l], d[l], ab[l]);
        return (r + s) * T(0.5);
#else
        return a * b - c * d;
#endif
    }
};

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
