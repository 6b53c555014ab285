// Blocks of vertices as structures of arrays: the block's weights are transposed once and serve the whole batch.
#include "skin/skin.h"

#include <algorithm>
#include <cstdlib>

#include "common/parallel.h"
#include "common/simd.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

constexpr int kBlock = 64;

template <typename T>
struct Block {
    T x[kBlock], y[kBlock], z[kBlock];

    void load_points(const T* p, int n) {
        for (int i = 0; i < n; ++i) x[i] = p[3 * i], y[i] = p[3 * i + 1], z[i] = p[3 * i + 2];
        for (int i = n; i < kBlock; ++i) x[i] = y[i] = z[i] = T(0);
    }
    void store_points(T* p, int n) const {
        for (int i = 0; i < n; ++i) p[3 * i] = x[i], p[3 * i + 1] = y[i], p[3 * i + 2] = z[i];
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

    void load(const SkinArgs<T>& a, int64_t v0, int n) {
        used = 0;
        for (int64_t j = 0; j < a.j; ++j) {
            T* row = values + used * kBlock;
            bool any = false;
            for (int i = 0; i < n; ++i) {
                row[i] = a.weights[(v0 + i) * a.j + j];
                any |= row[i] != T(0);
            }
            for (int i = n; i < kBlock; ++i) row[i] = T(0);
            if (any) joints[used++] = j;
        }
    }
};

template <typename T>
void apply_maps(const SkinArgs<T>& a, int64_t b, const BlockWeights<T>& weights, const Block<T>& in, bool transposed,
                Block<T>& out) {
    using V = Vec<T>;
    for (int i = 0; i < kBlock; i += Simd<T>::lanes) {
        const V x = load(in.x + i), y = load(in.y + i), z = load(in.z + i);
        V ox{}, oy{}, oz{};
        for (int64_t u = 0; u < weights.used; ++u) {
            const T* m = a.T_posed_rest + (b * a.j + weights.joints[u]) * 16;
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
        for (int k = 0; k < 12; ++k) maps[weights.joints[u] * 12 + k] += sum<T>(acc[k]);
    }
}

template <typename T>
void weight_grads(const SkinArgs<T>& a, const SkinGrads<T>& g, int threads) {
    parallel_for(a.v, 512, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t v = begin; v < end; ++v) {
            for (int64_t j = 0; j < a.j; ++j) {
                T total = T(0);
                for (int64_t b = 0; b < a.b; ++b)
                    total += skin_weight_grad(a, b, v, j, g.grad_out + (b * a.v + v) * 3);
                g.grad_weights[v * a.j + j] = total;
            }
        }
    });
}

}  // namespace

template <typename T>
void skin_forward(const SkinArgs<T>& a, int threads) {
    const int64_t blocks = (a.v + kBlock - 1) / kBlock;
    parallel_for(blocks, std::max<int64_t>(1, 64 / std::max<int64_t>(a.b, 1)), threads, [&](int64_t begin, int64_t end, int) {
        BlockWeights<T> weights(a.j);
        Block<T> in, out;
        for (int64_t k = begin; k < end; ++k) {
            const int64_t v0 = k * kBlock;
            const int n = static_cast<int>(std::min<int64_t>(kBlock, a.v - v0));
            weights.load(a, v0, n);
            for (int64_t b = 0; b < a.b; ++b) {
                in.load_points(a.points + (b * a.v + v0) * 3, n);
                apply_maps(a, b, weights, in, false, out);
                out.store_points(a.out + (b * a.v + v0) * 3, n);
            }
        }
    });
}

template <typename T>
void skin_backward(const SkinArgs<T>& a, const SkinGrads<T>& g, int threads) {
    const int64_t blocks = (a.v + kBlock - 1) / kBlock;
    if (blocks == 0 || a.b == 0) return;
    if (g.grad_weights) weight_grads(a, g, threads);
    // The sums over vertices are split in a way that does not depend on the number of threads: same result on any.
    const int64_t parts = std::min<int64_t>(blocks, 8);
    const int64_t stride = a.b * a.j * 12;
    T* partial = static_cast<T*>(std::calloc(parts * stride, sizeof(T)));
    parallel_for(parts, 1, threads, [&](int64_t begin, int64_t end, int) {
        BlockWeights<T> weights(a.j);
        Block<T> points, grads, out;
        for (int64_t part = begin; part < end; ++part) {
            for (int64_t k = part * blocks / parts; k < (part + 1) * blocks / parts; ++k) {
                const int64_t v0 = k * kBlock;
                const int n = static_cast<int>(std::min<int64_t>(kBlock, a.v - v0));
                weights.load(a, v0, n);
                for (int64_t b = 0; b < a.b; ++b) {
                    points.load_points(a.points + (b * a.v + v0) * 3, n);
                    grads.load_points(g.grad_out + (b * a.v + v0) * 3, n);
                    apply_maps(a, b, weights, grads, true, out);
                    out.store_points(g.grad_points + (b * a.v + v0) * 3, n);
                    add_map_grads(weights, points, grads, partial + part * stride + b * a.j * 12);
                }
            }
        }
    });
    for (int64_t i = 0; i < a.b * a.j; ++i) {
        for (int k = 0; k < 12; ++k) {
            T total = T(0);
            for (int64_t part = 0; part < parts; ++part) total += partial[part * stride + i * 12 + k];
            g.grad_T[i * 16 + k] = total;
        }
    }
    std::free(partial);
}

template void skin_forward<float>(const SkinArgs<float>&, int);
template void skin_forward<double>(const SkinArgs<double>&, int);
template void skin_backward<float>(const SkinArgs<float>&, const SkinGrads<float>&, int);
template void skin_backward<double>(const SkinArgs<double>&, const SkinGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
