// One block filters one channel of a tile, rows and then columns in shared memory; a second kernel filters the
// windows' gradients back. Sums are made per tile, then per image, in a fixed order: deterministic.
#include "common/cuda.h"
#include "ssim/ssim.h"

namespace avatar3d {
namespace cuda {
namespace {

constexpr int kX = kSsimTileX, kY = kSsimTileY;
constexpr int kWideX = kX + kSsimWindow - 1, kWideY = kY + kSsimWindow - 1;

// Where a block works: blocks are numbered by image, channel, tile row and tile column.
struct Tile {
    int64_t image, channel;
    int x0, y0;
};

template <typename T>
__device__ Tile tile_of(const SsimArgs<T>& a) {
    const int64_t columns = (a.width + kX - 1) / kX, tiles = ssim_tiles(a.height, a.width), i = blockIdx.x;
    const int64_t t = i % tiles;
    return {i / tiles / a.channels, i / tiles % a.channels, int(t % columns) * kX, int(t / columns) * kY};
}

template <typename T>
__device__ int64_t index(const SsimArgs<T>& a, const Tile& t, int x, int y) {
    return ((t.image * a.height + y) * a.width + x) * a.channels + t.channel;
}

template <typename T>
__device__ T weight(const SsimArgs<T>& a, const Tile& t, int x, int y) {
    if (x < a.margin || y < a.margin || x >= a.width - a.margin || y >= a.height - a.margin) return T(0);
    return a.weights ? a.weights[(t.image * a.height + y) * a.width + x] : T(1);
}

template <typename T>
__device__ T filter(const T* at, int step) {
    T sum = T(0);
#pragma unroll
    for (int k = 0; k < kSsimWindow; ++k) sum += ssim_tap<T>(k) * at[k * step];
    return sum;
}

template <typename T>
__global__ void windows_kernel(SsimArgs<T> a, T* partial, T* slopes) {
    __shared__ T in[2][kWideY][kWideX];
    __shared__ T rows[4][kWideY][kX];
    const Tile t = tile_of(a);
    for (int i = threadIdx.x; i < kWideY * kWideX; i += kBlock) {
        const int x = t.x0 + i % kWideX - kSsimRadius, y = t.y0 + i / kWideX - kSsimRadius;
        const bool inside = x >= 0 && y >= 0 && x < a.width && y < a.height;
        const int64_t at = inside ? index(a, t, x, y) : 0;
        in[0][i / kWideX][i % kWideX] = (inside ? a.a[at] : T(0)) - T(0.5);
        in[1][i / kWideX][i % kWideX] = (inside ? a.b[at] : T(0)) - T(0.5);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < kWideY * kX; i += kBlock) {
        const T *p = &in[0][i / kX][i % kX], *q = &in[1][i / kX][i % kX];
        T sum[4] = {};
#pragma unroll
        for (int k = 0; k < kSsimWindow; ++k) {
            const T u = ssim_tap<T>(k) * p[k], v = ssim_tap<T>(k) * q[k];
            sum[0] += u;
            sum[1] += v;
            sum[2] += u * p[k] + v * q[k];
            sum[3] += u * q[k];
        }
        for (int m = 0; m < 4; ++m) rows[m][i / kX][i % kX] = sum[m];
    }
    __syncthreads();
    const int64_t size = a.images * a.height * a.width * a.channels;
    T total = T(0);
    for (int i = threadIdx.x; i < kY * kX; i += kBlock) {
        const int x = t.x0 + i % kX, y = t.y0 + i / kX;
        if (x >= a.width || y >= a.height) continue;
        T maps[4];
        for (int m = 0; m < 4; ++m) maps[m] = filter(&rows[m][i / kX][i % kX], kX);
        const SsimWindow<T> s = ssim_window<T>(maps[0], maps[1], maps[2], maps[3]);
        const int64_t at = index(a, t, x, y);
        const T w = weight(a, t, x, y);
        const T difference = a.a[at] - a.b[at];
        if (w != T(0)) total += w * (a.l1 * (difference < T(0) ? -difference : difference) + (a.ssim * s.similarity + a.offset));
        if (!slopes) continue;
        slopes[at] = w != T(0) ? w * s.d_a : T(0);
        slopes[at + size] = w != T(0) ? w * s.d_q : T(0);
        slopes[at + 2 * size] = w != T(0) ? w * s.d_ab : T(0);
        slopes[at + 3 * size] = w != T(0) ? w * s.d_b : T(0);
    }
    T* sums = &in[0][0][0];
    sums[threadIdx.x] = total;
    __syncthreads();
    for (int step = kBlock / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) sums[threadIdx.x] += sums[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}

template <typename T>
__global__ void gradient_kernel(SsimArgs<T> a, const T* slopes) {
    __shared__ T in[kWideY][kWideX];
    __shared__ T rows[kWideY][kX];
    constexpr int kMine = kX * kY / kBlock;
    const Tile t = tile_of(a);
    const int64_t size = a.images * a.height * a.width * a.channels;
    T maps[4][kMine];
#pragma unroll
    for (int m = 0; m < 4; ++m) {
        __syncthreads();
        for (int i = threadIdx.x; i < kWideY * kWideX; i += kBlock) {
            const int x = t.x0 + i % kWideX - kSsimRadius, y = t.y0 + i / kWideX - kSsimRadius;
            const bool inside = x >= 0 && y >= 0 && x < a.width && y < a.height;
            in[i / kWideX][i % kWideX] = inside ? slopes[m * size + index(a, t, x, y)] : T(0);
        }
        __syncthreads();
        for (int i = threadIdx.x; i < kWideY * kX; i += kBlock) rows[i / kX][i % kX] = filter(&in[i / kX][i % kX], 1);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < kMine; ++k) {
            const int i = threadIdx.x + k * kBlock;
            maps[m][k] = filter(&rows[i / kX][i % kX], kX);
        }
    }
    const T scale = a.scale ? a.scale[t.image] : T(1), l1 = a.l1 * scale, ssim = a.ssim * scale;
#pragma unroll
    for (int k = 0; k < kMine; ++k) {
        const int i = threadIdx.x + k * kBlock, x = t.x0 + i % kX, y = t.y0 + i / kX;
        if (x >= a.width || y >= a.height) continue;
        const int64_t at = index(a, t, x, y);
        const T p = a.a[at] - T(0.5), q = a.b[at] - T(0.5);
        const T slope = l1 * weight(a, t, x, y) * (p > q ? T(1) : p < q ? T(-1) : T(0));
        if (a.grad_a) a.grad_a[at] = ssim * (maps[0][k] + T(2) * p * maps[1][k] + q * maps[2][k]) + slope;
        if (a.grad_b) a.grad_b[at] = ssim * (maps[3][k] + T(2) * q * maps[1][k] + p * maps[2][k]) - slope;
    }
}

// One block sums the tiles of one image.
template <typename T>
__global__ void sum_kernel(const T* partial, int64_t tiles, T* value) {
    __shared__ double sums[kBlock];
    double total = 0;
    for (int64_t i = threadIdx.x; i < tiles; i += kBlock) total += double(partial[blockIdx.x * tiles + i]);
    sums[threadIdx.x] = total;
    __syncthreads();
    for (int step = kBlock / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) sums[threadIdx.x] += sums[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) value[blockIdx.x] = T(sums[0]);
}

}  // namespace

template <typename T>
void ssim_forward(const SsimArgs<T>& a, T* scratch, uint64_t stream) {
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    if (a.images == 0) return;
    const int64_t tiles = ssim_tiles(a.height, a.width) * a.channels, blocks = tiles * a.images;
    if (blocks == 0) {
        if (a.value) cudaMemsetAsync(a.value, 0, a.images * sizeof(T), s);
        return;
    }
    T* slopes = a.grad_a || a.grad_b ? scratch + blocks : nullptr;
    windows_kernel<<<unsigned(blocks), kBlock, 0, s>>>(a, scratch, slopes);
    if (slopes) gradient_kernel<<<unsigned(blocks), kBlock, 0, s>>>(a, slopes);
    if (a.value) sum_kernel<<<unsigned(a.images), kBlock, 0, s>>>(scratch, tiles, a.value);
    check_launch("ssim_forward");
}

template void ssim_forward<float>(const SsimArgs<float>&, float*, uint64_t);
template void ssim_forward<double>(const SsimArgs<double>&, double*, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
