// One thread per splat, through all cameras: no atomics. Sums for the cameras go by blocks, which are added in order.
#include "common/cuda.h"
#include "project_splats/project_splats.h"

namespace avatar3d {
namespace cuda {
namespace {

constexpr int kThreads = 128;

template <typename T>
__device__ bool finite_splat(const ProjectArgs<T>& a, int64_t i, Splat<T>& s) {
    for (int c = 0; c < 3; ++c) s.mean[c] = a.means[i * 3 + c], s.scale[c] = a.scales[i * 3 + c];
    s.opacity = a.opacities[i];
    orient_splat<T>(a.quats + i * 4, s);
    const T sum = s.mean[0] + s.mean[1] + s.mean[2] + s.scale[0] + s.scale[1] + s.scale[2] + s.opacity;
    return sum - sum == T(0);
}

// Colours before they are clamped at 0; whether they are finite.
template <typename T>
__device__ bool splat_colors(const ProjectArgs<T>& a, int64_t i, const T* basis, T* color) {
    const T* sh = a.sh + i * a.coefficients * 3;
    for (int c = 0; c < 3; ++c) color[c] = T(0.5);
#pragma unroll
    for (int k = 0; k < 16; ++k) {
        if (k >= a.coefficients) break;
        for (int c = 0; c < 3; ++c) color[c] += basis[k] * sh[k * 3 + c];
    }
    const T sum = color[0] + color[1] + color[2];
    return sum - sum == T(0);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) forward_kernel(ProjectArgs<T> a) {
    const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= a.n) return;
    Splat<T> s;
    const bool finite = finite_splat(a, i, s);
    for (int64_t b = 0; b < a.b; ++b) {
        const ProjectCamera<T> camera = project_camera(a, b);
        const int64_t at = b * a.n + i;
        SplatView<T> v;
        bool visible = view_splat(s, camera, a.antialiased, v) && finite;
        if (a.coefficients > 0) {
            T direction[3] = {}, basis[16], color[3];
            if (a.coefficients > 1) view_direction(s, camera, direction);
            sh_basis<T>(a.coefficients, direction[0], direction[1], direction[2], basis);
            visible = splat_colors(a, i, basis, color) && visible;
            for (int c = 0; c < 3; ++c) a.colors[at * 3 + c] = visible && color[c] > T(0) ? color[c] : T(0);
        }
        if (a.normals) {
            T share[3], normal[3];
            splat_normal(s, camera, share, normal);
            for (int c = 0; c < 3; ++c) a.normals[at * 3 + c] = visible ? normal[c] : T(0);
        }
        for (int c = 0; c < 2; ++c) a.pixels[at * 2 + c] = visible ? v.pixel[c] : T(0);
        for (int c = 0; c < 3; ++c) a.conics[at * 3 + c] = visible ? v.conic[c] : T(0);
        a.out_opacities[at] = visible ? v.opacity : T(0);
        a.depths[at] = visible ? v.depth : T(0);
    }
}

// Adds one value per thread over the block, in a fixed order; the sum is thread 0's.
template <typename T>
__device__ T block_sum(T value, T* shared) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xFFFFFFFFu, value, step);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    T total = T(0);
    if (threadIdx.x == 0)
        for (int w = 0; w < kThreads / 32; ++w) total += shared[w];
    __syncthreads();
    return total;
}

template <bool WithCamera, typename T>
__global__ void __launch_bounds__(kThreads, 2) backward_kernel(ProjectArgs<T> a, ProjectGrads<T> g, T* partial) {
    __shared__ T shared[kThreads / 32];
    const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (!WithCamera && i >= a.n) return;
    const bool inside = i < a.n;
    Splat<T> s;
    bool finite = false;
    if (inside) finite = finite_splat(a, i, s);
    SplatGrads<T> grads{};
    for (int64_t b = 0; b < a.b; ++b) {
        T sums[WithCamera ? kCameraGrads : 1] = {};
        if (inside) {
            const ProjectCamera<T> camera = project_camera(a, b);
            const int64_t at = b * a.n + i;
            SplatView<T> v;
            bool visible = finite && view_splat(s, camera, a.antialiased, v);
            if (a.coefficients > 0) {
                T direction[3] = {}, basis[16], color[3] = {}, inverse = T(0);
                if (visible) {
                    if (a.coefficients > 1) inverse = view_direction(s, camera, direction);
                    sh_basis<T>(a.coefficients, direction[0], direction[1], direction[2], basis);
                    visible = splat_colors(a, i, basis, color);
                }
                T grad[3], grad_basis[16];
                for (int c = 0; c < 3; ++c) grad[c] = visible && color[c] > T(0) ? g.colors[at * 3 + c] : T(0);
                const T* sh = a.sh + i * a.coefficients * 3;
                T* to = g.sh ? g.sh + i * a.coefficients * 3 : nullptr;
#pragma unroll
                for (int k = 0; k < 16; ++k) {
                    if (k >= a.coefficients) break;
                    grad_basis[k] = T(0);
                    for (int c = 0; c < 3; ++c) {
                        if (visible) grad_basis[k] += sh[k * 3 + c] * grad[c];
                        if (to) to[k * 3 + c] = (b > 0 ? to[k * 3 + c] : T(0)) + (visible ? basis[k] * grad[c] : T(0));
                    }
                }
                if (visible && a.coefficients > 1) {
                    T grad_direction[3];
                    sh_basis_grad<T>(a.coefficients, direction[0], direction[1], direction[2], grad_basis, grad_direction);
                    view_direction_grad<WithCamera, T>(direction, inverse, grad_direction, grads, sums);
                }
            }
            if (visible) {
                SplatViewGrads<T> grad;
                for (int c = 0; c < 2; ++c) grad.pixel[c] = g.pixels[at * 2 + c];
                for (int c = 0; c < 3; ++c) grad.conic[c] = g.conics[at * 3 + c];
                grad.opacity = g.out_opacities[at];
                grad.depth = g.depths[at];
                view_splat_grad<WithCamera>(s, camera, a.antialiased, v, grad, grads, sums);
                if (g.normals) {
                    T share[3], normal[3];
                    splat_normal(s, camera, share, normal);
                    for (int r = 0; r < 3; ++r)
                        for (int c = 0; c < 3; ++c) grads.R[r * 3 + c] += g.normals[at * 3 + r] * share[c];
                }
            }
        }
        if constexpr (WithCamera) {
#pragma unroll
            for (int k = 0; k < kCameraGrads; ++k) {
                const T total = block_sum(sums[k], shared);
                if (threadIdx.x == 0) partial[(int64_t(blockIdx.x) * a.b + b) * kCameraGrads + k] = total;
            }
        }
    }
    if (!inside) return;
    orient_splat_grad<T>(s, grads.R, g.quats + i * 4);
    for (int c = 0; c < 3; ++c) g.means[i * 3 + c] = grads.mean[c], g.scales[i * 3 + c] = grads.scale[c];
    g.opacities[i] = grads.opacity;
}

// One block per camera adds the blocks' sums, in a fixed order.
template <typename T>
__global__ void __launch_bounds__(kThreads) camera_kernel(ProjectArgs<T> a, ProjectGrads<T> g, const T* partial, int64_t blocks) {
    __shared__ T shared[kThreads / 32];
    const int64_t b = blockIdx.x;
    T sums[kCameraGrads];
    for (int k = 0; k < kCameraGrads; ++k) {
        T sum = T(0);
        for (int64_t i = threadIdx.x; i < blocks; i += kThreads) sum += partial[(i * a.b + b) * kCameraGrads + k];
        sums[k] = block_sum(sum, shared);
    }
    if (threadIdx.x == 0) camera_grads(project_camera(a, b), sums, g.K + b * 9, g.T_camera_world + b * 16);
}

}  // namespace

int64_t project_splats_scratch(int64_t b, int64_t n) { return int64_t(blocks_for(n, kThreads)) * b * kCameraGrads; }

template <typename T>
void project_splats_forward(const ProjectArgs<T>& a, uint64_t stream) {
    if (a.n == 0 || a.b == 0) return;
    forward_kernel<<<blocks_for(a.n, kThreads), kThreads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a);
    check_launch("project_splats_forward");
}

template <typename T>
void project_splats_backward(const ProjectArgs<T>& a, const ProjectGrads<T>& g, T* scratch, uint64_t stream) {
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    const unsigned blocks = blocks_for(a.n, kThreads);
    if (g.K) {
        if (blocks > 0) backward_kernel<true><<<blocks, kThreads, 0, s>>>(a, g, scratch);
        if (a.b > 0) camera_kernel<<<unsigned(a.b), kThreads, 0, s>>>(a, g, scratch, blocks);
    } else if (blocks > 0) {
        backward_kernel<false><<<blocks, kThreads, 0, s>>>(a, g, scratch);
    }
    check_launch("project_splats_backward");
}

template void project_splats_forward<float>(const ProjectArgs<float>&, uint64_t);
template void project_splats_forward<double>(const ProjectArgs<double>&, uint64_t);
template void project_splats_backward<float>(const ProjectArgs<float>&, const ProjectGrads<float>&, float*, uint64_t);
template void project_splats_backward<double>(const ProjectArgs<double>&, const ProjectGrads<double>&, double*, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
