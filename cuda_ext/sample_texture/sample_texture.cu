#include "common/cuda.h"
#include "sample_texture/sample_texture.h"

namespace avatar3d {
namespace cuda {
namespace {

template <typename T>
__device__ int64_t texture_offset(const TextureArgs<T>& a, int64_t i) {
    return a.shared ? 0 : i / a.pixels * a.texel_count * a.c;
}

template <typename T>
__global__ void forward_kernel(TextureArgs<T> a) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < a.b * a.pixels) texture_pixel(a, a.texels + texture_offset(a, i), i);
}

template <typename T>
__device__ void add_level(const Taps<T>& t, const T* g, int64_t channels, T share, T* sums) {
    const T weights[4] = {(1 - t.fx) * (1 - t.fy), t.fx * (1 - t.fy), (1 - t.fx) * t.fy, t.fx * t.fy};
    for (int k = 0; k < 4; ++k)
        for (int64_t c = 0; c < channels; ++c) atomicAdd(sums + t.index[k] * channels + c, share * weights[k] * g[c]);
}

// Texel gradients are summed with atomics: the order of the sum is not fixed.
template <typename T>
__global__ void backward_kernel(TextureArgs<T> a, TextureGrads<T> g) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= a.b * a.pixels) return;
    texture_coordinates_grad(a, g, a.texels + texture_offset(a, i), i);
    if (!g.grad_texels) return;
    const T *go = g.grad_out + i * a.c, *uv = a.uv + i * 2;
    T* sums = g.grad_texels + texture_offset(a, i);
    const LevelBlend<T> blend = level_blend(a, i);
    add_level(taps_of(a.pyramid, blend.fine, uv[0], uv[1]), go, a.c, T(1) - blend.share, sums);
    if (blend.share != T(0)) add_level(taps_of(a.pyramid, blend.coarse, uv[0], uv[1]), go, a.c, blend.share, sums);
}

}  // namespace

template <typename T>
void sample_texture_forward(const TextureArgs<T>& a, uint64_t stream) {
    if (a.b * a.pixels == 0) return;
    forward_kernel<<<blocks_for(a.b * a.pixels), kBlock, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a);
    check_launch("sample_texture_forward");
}

template <typename T>
void sample_texture_backward(const TextureArgs<T>& a, const TextureGrads<T>& g, uint64_t stream) {
    if (a.b * a.pixels == 0) return;
    backward_kernel<<<blocks_for(a.b * a.pixels), kBlock, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a, g);
    check_launch("sample_texture_backward");
}

template void sample_texture_forward<float>(const TextureArgs<float>&, uint64_t);
template void sample_texture_forward<double>(const TextureArgs<double>&, uint64_t);
template void sample_texture_backward<float>(const TextureArgs<float>&, const TextureGrads<float>&, uint64_t);
template void sample_texture_backward<double>(const TextureArgs<double>&, const TextureGrads<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
