// One thread per splat. Gradients of the vertices: a record per splat, which each vertex gathers from the splats on
// its triangles in a fixed order, so that there are no atomics.
#include "common/cuda.h"
#include "rig_splats/rig_splats.h"

namespace avatar3d {
namespace cuda {
namespace {

constexpr int kThreads = 128;

// False where an index points nowhere.
template <typename T>
__device__ bool load_corners(const RigSplatsArgs<T>& a, int64_t b, int64_t i, T* corners) {
    const int32_t face = a.face[i];
    if (face < 0 || face >= a.f) return false;
    for (int c = 0; c < 3; ++c) {
        const int32_t vertex = a.faces[int64_t(face) * 3 + c];
        if (vertex < 0 || vertex >= a.v) return false;
        for (int k = 0; k < 3; ++k) corners[c * 3 + k] = a.vertices[(b * a.v + vertex) * 3 + k];
    }
    return true;
}

template <typename T>
__device__ void load_splat(const RigSplatsArgs<T>& a, int64_t i, RiggedSplat<T>& s) {
    for (int c = 0; c < 3; ++c) {
        s.barycentrics[c] = a.barycentrics[i * 3 + c];
        s.offset[c] = a.offsets[i * 3 + c];
        s.scale[c] = a.scales[i * 3 + c];
    }
    normalise_quat<T>(a.quats + i * 4, s);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) forward_kernel(RigSplatsArgs<T> a) {
    const int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (at >= a.b * a.n) return;
    const int64_t b = at / a.n, i = at % a.n;
    T corners[9], mean[3] = {}, quat[4] = {}, scale[3] = {}, turned[3];
    if (load_corners(a, b, i, corners)) {
        RiggedSplat<T> s;
        load_splat(a, i, s);
        FaceFrame<T> frame;
        face_frame<T>(corners, corners + 3, corners + 6, frame);
        rig_splat(frame, corners, s, mean, quat, scale, turned);
    }
    for (int c = 0; c < 3; ++c) a.out_means[at * 3 + c] = mean[c], a.out_scales[at * 3 + c] = scale[c];
    for (int c = 0; c < 4; ++c) a.out_quats[at * 4 + c] = quat[c];
}

template <bool WithVertices, typename T>
__global__ void __launch_bounds__(kThreads) backward_kernel(RigSplatsArgs<T> a, RigSplatsGrads<T> g, T* records) {
    const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= a.n) return;
    RiggedSplat<T> s;
    load_splat(a, i, s);
    RiggedSplatGrads<T> out{};
    for (int64_t b = 0; b < a.b; ++b) {
        const int64_t at = b * a.n + i;
        T corners[9], vertices[9] = {};
        if (load_corners(a, b, i, corners)) {
            FaceFrame<T> frame;
            face_frame<T>(corners, corners + 3, corners + 6, frame);
            T mean[3], quat[4], scale[3], turned[3];
            rig_splat(frame, corners, s, mean, quat, scale, turned);
            const T sum = mean[0] + mean[1] + mean[2] + quat[0] + quat[1] + quat[2] + quat[3] + scale[0] + scale[1] + scale[2];
            if (sum - sum == T(0))
                rig_splat_grad<WithVertices, T>(frame, corners, s, quat, turned, g.means + at * 3, g.quats_out + at * 4,
                                                g.scales_out + at * 3, out, vertices);
        }
        if constexpr (WithVertices)
            for (int k = 0; k < 9; ++k) records[at * 9 + k] = vertices[k];
    }
    normalise_quat_grad(s, out.q, g.quats + i * 4);
    for (int c = 0; c < 3; ++c) {
        g.barycentrics[i * 3 + c] = out.barycentrics[c];
        g.offsets[i * 3 + c] = out.offset[c];
        g.scales[i * 3 + c] = out.scale[c];
    }
}

// One warp per vertex and image.
template <typename T>
__global__ void __launch_bounds__(kThreads) gather_kernel(RigSplatsArgs<T> a, const T* records, const int64_t* order,
                                                          const int64_t* starts, T* vertices) {
    const int64_t at = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / 32;
    if (at >= a.b * a.v) return;
    const int64_t b = at / a.v, vertex = at % a.v;
    T sum[3] = {};
    for (int64_t k = starts[vertex] + threadIdx.x % 32; k < starts[vertex + 1]; k += 32)
        for (int c = 0; c < 3; ++c) sum[c] += records[(b * a.n * 3 + order[k]) * 3 + c];
    for (int c = 0; c < 3; ++c) {
        for (int step = 16; step > 0; step /= 2) sum[c] += __shfl_down_sync(0xFFFFFFFFu, sum[c], step);
        if (threadIdx.x % 32 == 0) vertices[at * 3 + c] = sum[c];
    }
}

}  // namespace

template <typename T>
void rig_splats_forward(const RigSplatsArgs<T>& a, uint64_t stream) {
    if (a.b * a.n == 0) return;
    forward_kernel<<<blocks_for(a.b * a.n, kThreads), kThreads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a);
    check_launch("rig_splats_forward");
}

template <typename T>
void rig_splats_backward(const RigSplatsArgs<T>& a, const RigSplatsGrads<T>& g, T* records, const int64_t* order,
                         const int64_t* starts, uint64_t stream) {
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    const unsigned blocks = blocks_for(a.n, kThreads);
    if (!g.vertices) {
        if (blocks > 0) backward_kernel<false><<<blocks, kThreads, 0, s>>>(a, g, records);
    } else {
        if (blocks > 0) backward_kernel<true><<<blocks, kThreads, 0, s>>>(a, g, records);
        if (a.b * a.v > 0)
            gather_kernel<<<blocks_for(a.b * a.v * 32, kThreads), kThreads, 0, s>>>(a, records, order, starts, g.vertices);
    }
    check_launch("rig_splats_backward");
}

template void rig_splats_forward<float>(const RigSplatsArgs<float>&, uint64_t);
template void rig_splats_forward<double>(const RigSplatsArgs<double>&, uint64_t);
template void rig_splats_backward<float>(const RigSplatsArgs<float>&, const RigSplatsGrads<float>&, float*, const int64_t*,
                                         const int64_t*, uint64_t);
template void rig_splats_backward<double>(const RigSplatsArgs<double>&, const RigSplatsGrads<double>&, double*,
                                          const int64_t*, const int64_t*, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
