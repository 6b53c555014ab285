// Rows of C numbers in memory to C vectors of lanes and back: a vector holds one number of each of its rows.
#pragma once
#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own header
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "rasterize/lanes.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

#ifdef __AVX512F__
// Where number C lane + c of rows one after the other lies among C vectors, as vpermt2ps takes it when vector k is
// joined to what vectors 0 to k - 1 gave.
template <int C>
struct RowIndices {
    alignas(64) int32_t from_rows[C][C][16], to_rows[C][C][16];
    constexpr RowIndices() : from_rows(), to_rows() {
        for (int c = 0; c < C; ++c)
            for (int k = 1; k < C; ++k)
                for (int l = 0; l < 16; ++l) {
                    const int at = l * C + c;
                    from_rows[c][k][l] = at / 16 == k ? 16 + at % 16 : k == 1 && at < 16 ? at : l;
                    const int m = c * 16 + l;
                    to_rows[c][k][l] = m % C == k ? 16 + m / C : k == 1 && m % C == 0 ? m / C : l;
                }
    }
};
template <int C>
constexpr RowIndices<C> kRowIndices{};

template <int C>
inline __attribute__((always_inline)) void join(const __m512* in, const int32_t (&indices)[C][C][16], __m512* out) {
    for (int c = 0; c < C; ++c) {
        out[c] = in[0];
        for (int k = 1; k < C; ++k) out[c] = _mm512_permutex2var_ps(out[c], _mm512_load_si512(indices[c][k]), in[k]);
    }
}

// Sixteen rows of sixteen numbers to their columns.
inline __attribute__((always_inline)) void transpose(__m512* r) {
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int k = 0; k < 2; ++k) {
            const __m512d a = _mm512_castps_pd(t[i + k]), b = _mm512_castps_pd(t[i + 2 + k]);
            r[i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    for (int c = 0; c < 4; ++c) {  // r[4 g + c]: columns c, c + 4, c + 8, c + 12 of rows 4 g to 4 g + 3
        const __m512 a = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88), b = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xDD);
        const __m512 d = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88), e = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xDD);
        t[c] = _mm512_shuffle_f32x4(a, d, 0x88);
        t[c + 4] = _mm512_shuffle_f32x4(b, e, 0x88);
        t[c + 8] = _mm512_shuffle_f32x4(a, d, 0xDD);
        t[c + 12] = _mm512_shuffle_f32x4(b, e, 0xDD);
    }
    for (int i = 0; i < 16; ++i) r[i] = t[i];
}
#endif

// `count` rows from `from`; lanes beyond them are 0.
template <int C, typename T>
inline __attribute__((always_inline)) void load_rows(const T* from, int count, typename Lanes<T>::V* to) {
    constexpr int lanes = Lanes<T>::count;
#ifdef __AVX512F__
    if constexpr (sizeof(T) == 4 && C <= 4) {
        if (count == lanes) {
            __m512 in[C], out[C];
            for (int c = 0; c < C; ++c) in[c] = _mm512_loadu_ps(from + c * 16);
            join<C>(in, kRowIndices<C>.from_rows, out);
            for (int c = 0; c < C; ++c) to[c] = typename Lanes<T>::V(out[c]);
            return;
        }
    }
#endif
    alignas(64) T rows[C][lanes];
    if (count == lanes) {
        for (int l = 0; l < lanes; ++l)
            for (int c = 0; c < C; ++c) rows[c][l] = from[l * C + c];
    } else {
        std::memset(rows, 0, sizeof(rows));
        for (int l = 0; l < count; ++l)
            for (int c = 0; c < C; ++c) rows[c][l] = from[l * C + c];
    }
    for (int c = 0; c < C; ++c) to[c] = Lanes<T>::load(rows[c]);
}

// Rows `index[l]`; lanes beyond `count` repeat the first.
template <int C, typename T>
inline __attribute__((always_inline)) void gather_rows(const T* from, const int32_t* index, int count, typename Lanes<T>::V* to) {
    constexpr int lanes = Lanes<T>::count;
#ifdef __AVX512F__
    if constexpr (sizeof(T) == 4 && C == 16) {
        __m512 rows[16];
        for (int l = 0; l < 16; ++l) rows[l] = _mm512_loadu_ps(from + int64_t(index[l < count ? l : 0]) * 16);
        transpose(rows);
        for (int c = 0; c < 16; ++c) to[c] = typename Lanes<T>::V(rows[c]);
        return;
    }
#endif
    alignas(64) T rows[C][lanes];
    for (int l = 0; l < lanes; ++l) {
        const T* row = from + int64_t(index[l < count ? l : 0]) * C;
        for (int c = 0; c < C; ++c) rows[c][l] = row[c];
    }
    for (int c = 0; c < C; ++c) to[c] = Lanes<T>::load(rows[c]);
}

template <int C, typename T>
inline __attribute__((always_inline)) void store_rows(const typename Lanes<T>::V* from, int count, T* to) {
    constexpr int lanes = Lanes<T>::count;
#ifdef __AVX512F__
    if constexpr (sizeof(T) == 4 && (C <= 4 || C == 16)) {
        if (count == lanes) {
            __m512 in[C], out[C];
            for (int c = 0; c < C; ++c) in[c] = __m512(from[c]);
            if constexpr (C == 16) {
                transpose(in);
                for (int c = 0; c < C; ++c) _mm512_storeu_ps(to + c * 16, in[c]);
            } else {
                join<C>(in, kRowIndices<C>.to_rows, out);
                for (int c = 0; c < C; ++c) _mm512_storeu_ps(to + c * 16, out[c]);
            }
            return;
        }
    }
#endif
    alignas(64) T rows[C][lanes];
    for (int c = 0; c < C; ++c) Lanes<T>::store(rows[c], from[c]);
    if (count == lanes) {
        for (int l = 0; l < lanes; ++l)
            for (int c = 0; c < C; ++c) to[l * C + c] = rows[c][l];
    } else {
        for (int l = 0; l < count; ++l)
            for (int c = 0; c < C; ++c) to[l * C + c] = rows[c][l];
    }
}

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
