// Products with a basis in panels [rows, 48]: 16 vertices, x y z of each, all rows one after the other in memory.
// Register tiles for each instruction set. Include from *_cpu.cpp only.
#pragma once
#include <cstdint>

#include "common/simd.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

constexpr int kPanel = 48;

template <typename T>
struct Tiles {
    static constexpr int lanes = Simd<T>::lanes;
#if defined(__AVX512F__)
    static constexpr int items = 8, wide = 3;       // of the batch, vectors of a panel: 24 of 32 registers
    static constexpr int rows = 12, many = 2;       // the other way: rows of the basis, vectors of items
#elif defined(__AVX__)
    static constexpr int items = 4, wide = 1;       // a vector is two registers of 16
    static constexpr int rows = 4, many = 1;
#else
    static constexpr int items = 2, wide = 1;       // a vector is four registers
    static constexpr int rows = 4, many = 1;
#endif
    static constexpr int across = lanes * many;
};

// What to fetch into the cache meanwhile, `step` bytes to a row: a product with a few items is faster than memory.
struct Ahead {
    const char* next;
    int64_t step;
};

// M items: out[m][0:48] = start + sum_k factors[k][m] panel[k].
template <typename T, int M>
inline void shapes_tile(const T* panel, const T* start, int64_t rows, const T* factors, T* out, int64_t stride,
                        Ahead ahead) {
    using V = Vec<T>;
    constexpr int wide = Tiles<T>::wide, lanes = Tiles<T>::lanes;
    for (int n = 0; n < kPanel; n += wide * lanes) {
        V acc[M][wide];
        for (int m = 0; m < M; ++m)
            for (int w = 0; w < wide; ++w) acc[m][w] = load(start + n + w * lanes);
        for (int64_t k = 0; k < rows; ++k) {
            V row[wide];
            if constexpr (M > 1) __builtin_prefetch(ahead.next + k * ahead.step, 0, 2);
            for (int w = 0; w < wide; ++w) row[w] = load(panel + k * kPanel + n + w * lanes);
            for (int m = 0; m < M; ++m)
                for (int w = 0; w < wide; ++w) acc[m][w] += factors[k * M + m] * row[w];
        }
        for (int m = 0; m < M; ++m)
            for (int w = 0; w < wide; ++w) store(out + m * stride + n + w * lanes, acc[m][w]);
    }
}

// factors: [rows, items], items <= Tiles<T>::items.
template <typename T, int M = Tiles<T>::items>
inline void add_shapes(const T* panel, const T* start, int64_t rows, const T* factors, int items, T* out, int64_t stride,
                       Ahead ahead) {
    if (items == M)
        shapes_tile<T, M>(panel, start, rows, factors, out, stride, ahead);
    else if constexpr (M > 1)
        add_shapes<T, M - 1>(panel, start, rows, factors, items, out, stride, ahead);
}

// sums[k] (a vector) += panel[k] columns, for one item.
template <typename T>
inline void add_products(const T* panel, const T* columns, int64_t first, int64_t rows, T* sums) {
    using V = Vec<T>;
    constexpr int lanes = Tiles<T>::lanes, count = kPanel / lanes;
    V c[count];
    for (int i = 0; i < count; ++i) c[i] = load(columns + i * lanes);
    for (int64_t k = first; k < rows; ++k) {
        V s = load(sums + k * lanes);
        for (int i = 0; i < count; ++i) s += c[i] * load(panel + k * kPanel + i * lanes);
        store(sums + k * lanes, s);
    }
}

// K rows: totals[k][item] += sum_n panel[k][n] columns[n][item].
template <typename T, int K>
inline void items_tile(const T* panel, const T* columns, T* totals) {
    using V = Vec<T>;
    constexpr int many = Tiles<T>::many, lanes = Tiles<T>::lanes, across = Tiles<T>::across;
    V acc[K][many];
    for (int k = 0; k < K; ++k)
        for (int w = 0; w < many; ++w) acc[k][w] = load(totals + k * across + w * lanes);
    for (int n = 0; n < kPanel; ++n) {
        V c[many];
        __builtin_prefetch(panel + 8 * K * kPanel + n * K);
        for (int w = 0; w < many; ++w) c[w] = load(columns + n * across + w * lanes);
        for (int k = 0; k < K; ++k)
            for (int w = 0; w < many; ++w) acc[k][w] += panel[k * kPanel + n] * c[w];
    }
    for (int k = 0; k < K; ++k)
        for (int w = 0; w < many; ++w) store(totals + k * across + w * lanes, acc[k][w]);
}

// totals: [rows, across]; `first` and `rows` are multiples of 4.
template <typename T>
inline void add_items(const T* panel, const T* columns, int64_t first, int64_t rows, T* totals) {
    constexpr int K = Tiles<T>::rows, across = Tiles<T>::across;
    int64_t k = first;
    for (; k + K <= rows; k += K) items_tile<T, K>(panel + k * kPanel, columns, totals + k * across);
    for (; k < rows; k += 4) items_tile<T, 4>(panel + k * kPanel, columns, totals + k * across);
}

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
