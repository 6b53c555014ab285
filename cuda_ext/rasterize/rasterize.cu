// One warp draws a small triangle, all blocks together a large one; the z-buffer is one 64-bit atomic per pixel.
#include "common/cuda.h"
#include "rasterize/rasterize.h"

namespace avatar3d {
namespace cuda {
namespace {

constexpr int kSmall = 1024;  // pixels in the box of a triangle that one warp draws

// Low wins among equal depths: first what faces the camera, then the lower index.
__device__ uint32_t rank_of(int32_t id, bool away) { return uint32_t(id) | (away ? 0x80000000u : 0u); }

// In float one atomic holds 1/depth and the rank; 0 is empty.
__device__ void put(const RasterArgs<float>&, unsigned long long* key, int64_t, float w, uint32_t rank, bool) {
    atomicMax(key, (unsigned long long)__float_as_uint(w) << 32 | (0xFFFFFFFFu - rank));
}

// In double it holds 1/depth alone; the lowest rank of those who have it is found in a second pass.
__device__ void put(const RasterArgs<double>& a, unsigned long long* key, int64_t pixel, double w, uint32_t rank, bool second) {
    const unsigned long long bits = (unsigned long long)__double_as_longlong(w);
    if (!second) {
        atomicMax(key, bits);
    } else if (*key == bits) {
        atomicMin(reinterpret_cast<unsigned*>(a.triangle) + pixel, rank);
    }
}

__device__ int32_t winner(const RasterArgs<float>&, const uint64_t* keys, int64_t pixel) {
    return keys[pixel] ? int32_t((0xFFFFFFFFu - uint32_t(keys[pixel])) & 0x7FFFFFFFu) : -1;
}
__device__ int32_t winner(const RasterArgs<double>& a, const uint64_t* keys, int64_t pixel) {
    return keys[pixel] ? a.triangle[pixel] & 0x7FFFFFFF : -1;
}

template <typename T>
__device__ void draw(const RasterArgs<T>& a, int64_t image, int32_t id, PixelBox box, int worker, int workers,
                     uint64_t* keys, bool second) {
    TriangleEdges edges;
    if (!triangle_edges(a.points + image * a.v * 3, a.faces + int64_t(id) * 3, edges) || (a.cull && edges.away)) return;
    const T limit = T(1) / a.near;
    for (int32_t ty = box.y0 / kRasterTile * kRasterTile; ty <= box.y1; ty += kRasterTile) {
        for (int32_t tx = box.x0 / kRasterTile * kRasterTile; tx <= box.x1; tx += kRasterTile) {
            const TileTriangle<T> t = tile_triangle<T>(edges, tx + 0.5, ty + 0.5);
            const int x0 = max(box.x0 - tx, 0), x1 = min(box.x1 - tx, kRasterTile - 1);
            const int y0 = max(box.y0 - ty, 0), y1 = min(box.y1 - ty, kRasterTile - 1);
            const int columns = x1 - x0 + 1, n = columns * (y1 - y0 + 1);
            for (int i = worker; i < n; i += workers) {
                const int x = x0 + i % columns, y = y0 + i / columns;
                T E[3];
                if (!evaluate(t, T(x), T(y), E)) continue;
                const T w = inverse_depth(t, E);
                if (!(w > T(0) && w <= limit)) continue;
                const int64_t pixel = (image * a.height + ty + y) * a.width + tx + x;
                put(a, reinterpret_cast<unsigned long long*>(keys) + pixel, pixel, w, rank_of(id, edges.away), second);
            }
        }
    }
}

template <typename T>
__device__ PixelBox box_of(const RasterArgs<T>& a, int64_t image, int32_t id) {
    const int32_t* face = a.faces + int64_t(id) * 3;
    for (int i = 0; i < 3; ++i)
        if (face[i] < 0 || face[i] >= a.v) return {0, 0, -1, -1};
    bool crossing;
    return triangle_box(a.points + image * a.v * 3, face, a.near, a.height, a.width, &crossing);
}

// large[0] counts, large[1..] lists the triangles (image * f + id) that are left to large_kernel.
template <typename T>
__global__ void small_kernel(RasterArgs<T> a, uint64_t* keys, int32_t* large, bool second) {
    const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
    if (i >= a.b * a.f) return;
    const int64_t image = i / a.f;
    const int32_t id = int32_t(i % a.f);
    const PixelBox box = box_of(a, image, id);
    if (box.x1 < box.x0) return;
    if (int64_t(box.x1 - box.x0 + 1) * (box.y1 - box.y0 + 1) > kSmall) {
        if (!second && threadIdx.x % 32 == 0) large[1 + atomicAdd(large, 1)] = int32_t(i);
        return;
    }
    draw(a, image, id, box, threadIdx.x % 32, 32, keys, second);
}

template <typename T>
__global__ void large_kernel(RasterArgs<T> a, uint64_t* keys, const int32_t* large, bool second) {
    const int32_t count = large[0];
    for (int32_t k = 0; k < count; ++k) {
        const int64_t image = large[1 + k] / a.f;
        const int32_t id = int32_t(large[1 + k] % a.f);
        draw(a, image, id, box_of(a, image, id), blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x, keys, second);
    }
}

template <typename T>
__global__ void resolve_kernel(RasterArgs<T> a, const uint64_t* keys) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= a.b * a.height * a.width) return;
    const int32_t id = winner(a, keys, i);
    T* b = a.barycentrics + i * 3;
    a.triangle[i] = id;
    b[0] = b[1] = b[2] = a.depth[i] = T(0);
    if (id < 0) return;
    const int32_t x = int32_t(i % a.width), y = int32_t(i / a.width % a.height);
    TriangleEdges edges;
    triangle_edges(a.points + i / (int64_t(a.width) * a.height) * a.v * 3, a.faces + int64_t(id) * 3, edges);
    const int32_t tx = x / kRasterTile * kRasterTile, ty = y / kRasterTile * kRasterTile;
    resolve_pixel(tile_triangle<T>(edges, tx + 0.5, ty + 0.5), T(x - tx), T(y - ty), b, a.depth + i);
}

// One thread per pixel adds to its triangle's corners with atomics: the order of the sum is not fixed.
template <typename T>
__global__ void backward_kernel(RasterArgs<T> a, RasterGrads<T> g) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= a.b * a.height * a.width || g.triangle[i] < 0) return;
    const int64_t image = i / (int64_t(a.width) * a.height);
    const int32_t* face = a.faces + int64_t(g.triangle[i]) * 3;
    const T* b = g.barycentrics + i * 3;
    TriangleEdges edges;
    if (!triangle_edges(a.points + image * a.v * 3, face, edges)) return;
    T G[3];
    pixel_gradient(edges, b, g.depth[i], g.grad_barycentrics + i * 3, g.grad_depth[i], G);
    for (int k = 0; k < 3; ++k)
        for (int c = 0; c < 3; ++c) atomicAdd(g.grad_points + (image * a.v + face[k]) * 3 + c, b[k] * G[c]);
}

}  // namespace

template <typename T>
void rasterize_forward(const RasterArgs<T>& a, uint64_t* keys, int32_t* large, uint64_t stream) {
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    const int64_t pixels = a.b * a.height * a.width;
    if (pixels == 0) return;
    cudaMemsetAsync(keys, 0, pixels * sizeof(uint64_t), s);
    cudaMemsetAsync(large, 0, sizeof(int32_t), s);
    cudaMemsetAsync(a.triangle, 0xFF, pixels * sizeof(int32_t), s);
    if (a.f > 0) {
        for (int pass = 0; pass < (sizeof(T) == 8 ? 2 : 1); ++pass) {
            small_kernel<<<blocks_for(a.b * a.f * 32), kBlock, 0, s>>>(a, keys, large, pass == 1);
            large_kernel<<<264, kBlock, 0, s>>>(a, keys, large, pass == 1);
        }
    }
    resolve_kernel<<<blocks_for(pixels), kBlock, 0, s>>>(a, keys);
    check_launch("rasterize_forward");
}

template <typename T>
void rasterize_backward(const RasterArgs<T>& a, const RasterGrads<T>& g, uint64_t stream) {
    const int64_t pixels = a.b * a.height * a.width;
    if (pixels == 0) return;
    backward_kernel<<<blocks_for(pixels), kBlock, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a, g);
    check_launch("rasterize_backward");
}

template void rasterize_forward<float>(const RasterArgs<float>&, uint64_t*, int32_t*, uint64_t);
template void rasterize_forward<double>(const RasterArgs<double>&, uint64_t*, int32_t*, uint64_t);
template void rasterize_backward<float>(const RasterArgs<float>&, const RasterGrads<float>&, uint64_t);
template void rasterize_backward<double>(const RasterArgs<double>&, const RasterGrads<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
