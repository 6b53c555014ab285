#include "common/cuda.h"
#include "interpolate/interpolate.h"

namespace avatar3d {
namespace cuda {
namespace {

template <typename T>
__global__ void forward_kernel(InterpolateArgs<T> a) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < a.b * a.height * a.width) interpolate_pixel(a, attributes_of(a, i / (a.height * a.width)), i);
}

// Attribute gradients are summed with atomics: the order of the sum is not fixed.
template <typename T>
__global__ void backward_kernel(InterpolateArgs<T> a, InterpolateGrads<T> g) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= a.b * a.height * a.width) return;
    const T* attributes = attributes_of(a, i / (a.height * a.width));
    interpolate_barycentrics_grad(a, g, attributes, i);
    if (!g.grad_attributes || a.triangle[i] < 0) return;
    for (int k = 0; k < 3; ++k) {
        const T b = a.barycentrics[i * 3 + k];
        T* sum = g.grad_attributes + (attributes - a.attributes) + a.corners[int64_t(a.triangle[i]) * 3 + k] * a.c;
        for (int64_t c = 0; c < a.c; ++c) atomicAdd(sum + c, b * g.grad_out[i * a.c + c]);
    }
}

}  // namespace

template <typename T>
void interpolate_forward(const InterpolateArgs<T>& a, uint64_t stream) {
    const int64_t n = a.b * a.height * a.width;
    if (n == 0) return;
    forward_kernel<<<blocks_for(n), kBlock, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a);
    check_launch("interpolate_forward");
}

template <typename T>
void interpolate_backward(const InterpolateArgs<T>& a, const InterpolateGrads<T>& g, uint64_t stream) {
    const int64_t n = a.b * a.height * a.width;
    if (n == 0) return;
    backward_kernel<<<blocks_for(n), kBlock, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a, g);
    check_launch("interpolate_backward");
}

template void interpolate_forward<float>(const InterpolateArgs<float>&, uint64_t);
template void interpolate_forward<double>(const InterpolateArgs<double>&, uint64_t);
template void interpolate_backward<float>(const InterpolateArgs<float>&, const InterpolateGrads<float>&, uint64_t);
template void interpolate_backward<double>(const InterpolateArgs<double>&, const InterpolateGrads<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
