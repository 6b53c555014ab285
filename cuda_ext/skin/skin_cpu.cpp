#include "common/parallel.h"
#include "skin/skin.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

template <typename T>
void skin_forward(const SkinArgs<T>& a, int threads) {
    parallel_for(a.b * a.v, 2048, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) skin_point(a, i / a.v, i % a.v, a.out + i * 3);
    });
}

template <typename T>
void skin_backward(const SkinArgs<T>& a, const SkinGrads<T>& g, int threads) {
    parallel_for(a.b * a.v, 2048, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
            skin_point_grad(a, i / a.v, i % a.v, g.grad_out + i * 3, g.grad_points + i * 3);
    });
    if (g.grad_weights) {
        parallel_for(a.v, 512, threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t v = begin; v < end; ++v) {
                for (int64_t j = 0; j < a.j; ++j) {
                    T sum = T(0);
                    for (int64_t b = 0; b < a.b; ++b)
                        sum += skin_weight_grad(a, b, v, j, g.grad_out + (b * a.v + v) * 3);
                    g.grad_weights[v * a.j + j] = sum;
                }
            }
        });
    }
    // One thread owns one item's maps, so nothing is shared and the sum has one order.
    parallel_for(a.b, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t b = begin; b < end; ++b) {
            T* maps = g.grad_T + b * a.j * 16;
            for (int64_t v = 0; v < a.v; ++v) {
                const T* p = a.points + (b * a.v + v) * 3;
                const T* go = g.grad_out + (b * a.v + v) * 3;
                const T* w = a.weights + v * a.j;
                T outer[12];
                for (int r = 0; r < 3; ++r) {
                    for (int c = 0; c < 3; ++c) outer[r * 4 + c] = go[r] * p[c];
                    outer[r * 4 + 3] = go[r];
                }
                for (int64_t j = 0; j < a.j; ++j) {
                    if (w[j] == T(0)) continue;
                    for (int i = 0; i < 12; ++i) maps[j * 16 + i] += w[j] * outer[i];
                }
            }
        }
    });
}

template void skin_forward<float>(const SkinArgs<float>&, int);
template void skin_forward<double>(const SkinArgs<double>&, int);
template void skin_backward<float>(const SkinArgs<float>&, const SkinGrads<float>&, int);
template void skin_backward<double>(const SkinArgs<double>&, const SkinGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
