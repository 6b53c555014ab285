// Rows of C numbers in memory to C vectors of lanes and back: a vector holds one number of each of its rows.
#pragma once
#include <cstdint>
#include <cstring>

#include "rasterize/lanes.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

// `count` rows from `from`; lanes beyond them are 0.
template <int C, typename T>
inline __attribute__((always_inline)) void load_rows(const T* from, int count, typename Lanes<T>::V* to) {
    constexpr int lanes = Lanes<T>::count;
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
