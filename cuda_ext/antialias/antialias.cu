#include "antialias/antialias.h"
#include "common/cuda.h"

namespace avatar3d {
namespace cuda {
namespace {

template <typename T>
__global__ void facing_kernel(AntialiasArgs<T> a) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < a.b * a.f) a.facing[i] = facing_of(a, i / a.f, i % a.f);
}

// One thread follows one edge. Pixels and vertices are summed with atomics: the order of the sum is not fixed.
template <typename T>
__global__ void forward_kernel(AntialiasArgs<T> a) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= a.b * a.f * 3) return;
    each_crossing(a, i / (a.f * 3), int32_t(i / 3 % a.f), int(i % 3), [&](const Crossing& k) {
        const T *receiver = a.image + k.receiver * a.c, *other = a.image + k.other * a.c;
        for (int64_t c = 0; c < a.c; ++c) atomicAdd(a.out + k.receiver * a.c + c, T(k.weight) * (other[c] - receiver[c]));
    });
}

template <typename T>
__global__ void backward_kernel(AntialiasArgs<T> a, AntialiasGrads<T> g) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= a.b * a.f * 3) return;
    const int64_t image = i / (a.f * 3);
    each_crossing(a, image, int32_t(i / 3 % a.f), int(i % 3), [&](const Crossing& k) {
        const T *receiver = a.image + k.receiver * a.c, *other = a.image + k.other * a.c, *go = g.grad_out + k.receiver * a.c;
        double grad_weight = 0, from[3], to[3];
        for (int64_t c = 0; c < a.c; ++c) {
            grad_weight += double(go[c]) * (double(other[c]) - double(receiver[c]));
            atomicAdd(g.grad_image + k.receiver * a.c + c, T(-k.weight) * go[c]);
            atomicAdd(g.grad_image + k.other * a.c + c, T(k.weight) * go[c]);
        }
        crossing_gradient(a.points + image * a.v * 3, k, grad_weight, from, to);
        for (int c = 0; c < 3; ++c) {
            atomicAdd(g.grad_points + (image * a.v + k.from) * 3 + c, T(from[c]));
            atomicAdd(g.grad_points + (image * a.v + k.to) * 3 + c, T(to[c]));
        }
    });
}

}  // namespace

template <typename T>
void antialias_forward(const AntialiasArgs<T>& a, uint64_t stream) {
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    cudaMemcpyAsync(a.out, a.image, a.b * a.height * a.width * a.c * sizeof(T), cudaMemcpyDeviceToDevice, s);
    if (a.b * a.f == 0) return;
    facing_kernel<<<blocks_for(a.b * a.f), kBlock, 0, s>>>(a);
    forward_kernel<<<blocks_for(a.b * a.f * 3), kBlock, 0, s>>>(a);
    check_launch("antialias_forward");
}

template <typename T>
void antialias_backward(const AntialiasArgs<T>& a, const AntialiasGrads<T>& g, uint64_t stream) {
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    cudaMemcpyAsync(g.grad_image, g.grad_out, a.b * a.height * a.width * a.c * sizeof(T), cudaMemcpyDeviceToDevice, s);
    if (a.b * a.f == 0) return;
    facing_kernel<<<blocks_for(a.b * a.f), kBlock, 0, s>>>(a);
    backward_kernel<<<blocks_for(a.b * a.f * 3), kBlock, 0, s>>>(a, g);
    check_launch("antialias_backward");
}

template void antialias_forward<float>(const AntialiasArgs<float>&, uint64_t);
template void antialias_forward<double>(const AntialiasArgs<double>&, uint64_t);
template void antialias_backward<float>(const AntialiasArgs<float>&, const AntialiasGrads<float>&, uint64_t);
template void antialias_backward<double>(const AntialiasArgs<double>&, const AntialiasGrads<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
