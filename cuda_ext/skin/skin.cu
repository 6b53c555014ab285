#include "common/cuda.h"
#include "skin/skin.h"

namespace avatar3d {
namespace cuda {
namespace {

template <typename T>
__global__ void forward_kernel(SkinArgs<T> a) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < a.b * a.v) skin_point(a, i / a.v, i % a.v, a.out + i * 3);
}

template <typename T>
__global__ void points_kernel(SkinArgs<T> a, SkinGrads<T> g) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < a.b * a.v) skin_point_grad(a, i / a.v, i % a.v, g.grad_out + i * 3, g.grad_points + i * 3);
}

template <typename T>
__global__ void weights_kernel(SkinArgs<T> a, SkinGrads<T> g) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= a.v * a.j) return;
    T sum = T(0);
    for (int64_t b = 0; b < a.b; ++b) {
        const int64_t v = i / a.j;
        sum += skin_weight_grad(a, b, v, i % a.j, g.grad_out + (b * a.v + v) * 3);
    }
    g.grad_weights[i] = sum;
}

// One block sums one joint's map of one item over all points, in a fixed order: deterministic.
template <typename T>
__global__ void maps_kernel(SkinArgs<T> a, SkinGrads<T> g) {
    __shared__ T shared[kBlock];
    const int64_t j = blockIdx.x, b = blockIdx.y;
    T sum[12] = {};
    for (int64_t v = threadIdx.x; v < a.v; v += kBlock) {
        const T w = a.weights[v * a.j + j];
        if (w == T(0)) continue;
        const T* p = a.points + (b * a.v + v) * 3;
        const T* go = g.grad_out + (b * a.v + v) * 3;
        for (int r = 0; r < 3; ++r) {
            for (int c = 0; c < 3; ++c) sum[r * 4 + c] += w * go[r] * p[c];
            sum[r * 4 + 3] += w * go[r];
        }
    }
    for (int i = 0; i < 12; ++i) {
        shared[threadIdx.x] = sum[i];
        __syncthreads();
        for (int step = kBlock / 2; step > 0; step /= 2) {
            if (threadIdx.x < step) shared[threadIdx.x] += shared[threadIdx.x + step];
            __syncthreads();
        }
        if (threadIdx.x == 0) g.grad_T[(b * a.j + j) * 16 + i] = shared[0];
        __syncthreads();
    }
}

}  // namespace

template <typename T>
void skin_forward(const SkinArgs<T>& a, uint64_t stream) {
    if (a.b * a.v == 0) return;
    forward_kernel<<<blocks_for(a.b * a.v), kBlock, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a);
    check_launch("skin_forward");
}

template <typename T>
void skin_backward(const SkinArgs<T>& a, const SkinGrads<T>& g, uint64_t stream) {
    if (a.b * a.v == 0) return;
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    points_kernel<<<blocks_for(a.b * a.v), kBlock, 0, s>>>(a, g);
    if (g.grad_weights) weights_kernel<<<blocks_for(a.v * a.j), kBlock, 0, s>>>(a, g);
    maps_kernel<<<dim3(unsigned(a.j), unsigned(a.b)), kBlock, 0, s>>>(a, g);
    check_launch("skin_backward");
}

template void skin_forward<float>(const SkinArgs<float>&, uint64_t);
template void skin_forward<double>(const SkinArgs<double>&, uint64_t);
template void skin_backward<float>(const SkinArgs<float>&, const SkinGrads<float>&, uint64_t);
template void skin_backward<double>(const SkinArgs<double>&, const SkinGrads<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
