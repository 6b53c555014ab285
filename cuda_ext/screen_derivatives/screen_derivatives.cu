#include "common/cuda.h"
#include "screen_derivatives/screen_derivatives.h"

namespace avatar3d {
namespace cuda {
namespace {

template <typename T>
__global__ void forward_kernel(DerivativeArgs<T> a) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < a.b * a.pixels) derivatives_of_pixel(a, i);
}

}  // namespace

template <typename T>
void screen_derivatives_forward(const DerivativeArgs<T>& a, uint64_t stream) {
    if (a.b * a.pixels == 0) return;
    forward_kernel<<<blocks_for(a.b * a.pixels), kBlock, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a);
    check_launch("screen_derivatives_forward");
}

template void screen_derivatives_forward<float>(const DerivativeArgs<float>&, uint64_t);
template void screen_derivatives_forward<double>(const DerivativeArgs<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
