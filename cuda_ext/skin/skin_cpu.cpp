#include "skin/skin.h"

#include <algorithm>
#include <cstdlib>

#include "common/parallel.h"
#include "skin/block.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

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
            weights.load(a.weights, a.j, v0, n);
            for (int64_t b = 0; b < a.b; ++b) {
                in.load_points(a.points + (b * a.v + v0) * 3, n);
                apply_maps(a.T_posed_rest + b * a.j * 16, weights, in, false, out);
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
                weights.load(a.weights, a.j, v0, n);
                for (int64_t b = 0; b < a.b; ++b) {
                    points.load_points(a.points + (b * a.v + v0) * 3, n);
                    grads.load_points(g.grad_out + (b * a.v + v0) * 3, n);
                    apply_maps(a.T_posed_rest + b * a.j * 16, weights, grads, true, out);
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
