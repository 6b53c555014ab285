// Blocks of vertices as structures of arrays: the block's weights are transposed once and serve the whole batch.
// Include from *_cpu.cpp only.
#pragma once
#include <algorithm>
#include <cstdlib>

#include "common/rows.h"
#include "common/simd.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

constexpr int kBlock = 64;

template <typename T>
struct Block {
    T x[kBlock], y[kBlock], z[kBlock];

    void load_points(const T* p, int n) {
        constexpr int lanes = Lanes<T>::count;
        typename Lanes<T>::V v[3];
        for (int i = 0; i < kBlock; i += lanes) {
            load_rows<3>(p + 3 * std::min(i, n), std::max(0, std::min(lanes, n - i)), v);
            Lanes<T>::store(x + i, v[0]), Lanes<T>::store(y + i, v[1]), Lanes<T>::store(z + i, v[2]);
        }
    }
    void store_points(T* p, int n) const {
        constexpr int lanes = Lanes<T>::count;
        for (int i = 0; i < n; i += lanes) {
            const typename Lanes<T>::V v[3] = {Lanes<T>::load(x + i), Lanes<T>::load(y + i), Lanes<T>::load(z + i)};
            store_rows<3>(v, std::min(lanes, n - i), p + 3 * i);
        }
    }
};

// Weights of one block by joint, without the joints that move nothing in it.
template <typename T>
struct BlockWeights {
    int64_t used = 0;
    int64_t* joints;
    T* values;  // [used, kBlock]

    explicit BlockWeights(int64_t j)
        : joints(static_cast<int64_t*>(std::malloc(sizeof(int64_t) * j + sizeof(T) * j * kBlock))),
          values(reinterpret_cast<T*>(joints + j)) {}
    ~BlockWeights() { std::free(joints); }
    BlockWeights(const BlockWeights&) = delete;
    BlockWeights& operator=(const BlockWeights&) = delete;

    // all: weights of all vertices, [v, j].
    void load(const T* all, int64_t j_count, int64_t v0, int n) {
        used = 0;
        for (int64_t j = 0; j < j_count; ++j) {
            T* row = values + used * kBlock;
            bool any = false;
            for (int i = 0; i < n; ++i) {
                row[i] = all[(v0 + i) * j_count + j];
                any |= row[i] != T(0);
            }
            for (int i = n; i < kBlock; ++i) row[i] = T(0);
            if (any) joints[used++] = j;
        }
    }
};

// Halves added to halves: sum() of simd.h keeps the lanes' order, which takes longer than what is summed here.
template <typename T>
inline __attribute__((always_inline)) T tree_sum(Vec<T> v) {
    constexpr int lanes = Simd<T>::lanes;
    typedef T Half __attribute__((vector_size(32)));
    typedef T Quarter __attribute__((vector_size(16)));
    Half half[2];
    Quarter quarter[2];
    std::memcpy(half, &v, 64);
    half[0] += half[1];
    std::memcpy(quarter, half, 32);
    quarter[0] += quarter[1];
    if constexpr (lanes == 8) return quarter[0][0] + quarter[0][1];
    return (quarter[0][0] + quarter[0][1]) + (quarter[0][2 % (lanes / 4)] + quarter[0][3 % (lanes / 4)]);
}

// maps: of one item, [j, 4, 4].
template <typename T>
void apply_maps(const T* maps, const BlockWeights<T>& weights, const Block<T>& in, bool transposed, Block<T>& out) {
    using V = Vec<T>;
    for (int i = 0; i < kBlock; i += Simd<T>::lanes) {
        const V x = load(in.x + i), y = load(in.y + i), z = load(in.z + i);
        V ox{}, oy{}, oz{};
        for (int64_t u = 0; u < weights.used; ++u) {
            const T* m = maps + weights.joints[u] * 16;
            const V w = load(weights.values + u * kBlock + i);
            if (transposed) {
                ox += w * (m[0] * x + m[4] * y + m[8] * z);
                oy += w * (m[1] * x + m[5] * y + m[9] * z);
                oz += w * (m[2] * x + m[6] * y + m[10] * z);
            } else {
                ox += w * (m[0] * x + m[1] * y + m[2] * z + m[3]);
                oy += w * (m[4] * x + m[5] * y + m[6] * z + m[7]);
                oz += w * (m[8] * x + m[9] * y + m[10] * z + m[11]);
            }
        }
        store(out.x + i, ox), store(out.y + i, oy), store(out.z + i, oz);
    }
}

// Adds sum_v w_v g_v (p_v, 1) for every used joint to `maps` [j, 12].
template <typename T>
void add_map_grads(const BlockWeights<T>& weights, const Block<T>& p, const Block<T>& g, T* maps) {
    using V = Vec<T>;
    for (int64_t u = 0; u < weights.used; ++u) {
        V acc[12] = {};
        for (int i = 0; i < kBlock; i += Simd<T>::lanes) {
            const V w = load(weights.values + u * kBlock + i);
            const V x = load(p.x + i), y = load(p.y + i), z = load(p.z + i);
            const V wg[3] = {w * load(g.x + i), w * load(g.y + i), w * load(g.z + i)};
            for (int r = 0; r < 3; ++r) {
                acc[r * 4] += wg[r] * x;
                acc[r * 4 + 1] += wg[r] * y;
                acc[r * 4 + 2] += wg[r] * z;
                acc[r * 4 + 3] += wg[r];
            }
        }
        for (int k = 0; k < 12; ++k) maps[weights.joints[u] * 12 + k] += tree_sum<T>(acc[k]);
    }
}

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
