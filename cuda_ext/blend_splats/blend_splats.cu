// One block draws a tile of 16 x 16 pixels, one warp 8 x 4 of them: splats are staged in shared memory, and a warp
// visits only those that reach its pixels. On the way back a warp's sums over its pixels are reduced in registers,
// those of the eight warps added in shared memory, and the result written to the slot of splat and tile.
#include "blend_splats/blend_splats_cuda.h"
#include "common/cuda.h"

namespace avatar3d {
namespace cuda {
namespace {

constexpr int kThreads = kTile * kTile, kWarps = kThreads / 32;
constexpr int kWarpWidth = 8, kWarpHeight = 4;  // pixels
constexpr int kMoments = 8;                     // of a gradient record; the attributes follow
constexpr int kGroup = 8;                       // channels at a time, where there are more
constexpr unsigned kAll = 0xFFFFFFFFu;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kMostBlocks = 4;  // it has room for 1024 threads
#else
constexpr int kMostBlocks = 5;
#endif
// Blocks that a multiprocessor is to hold at once, which bounds the registers: none spill.
template <typename T>
constexpr int kBlocks = sizeof(T) == 4 ? kMostBlocks : 2;
template <typename T, int C>
constexpr int kUndoBlocks = sizeof(T) == 4 ? (C > 4 ? 3 : 4) : 2;

// A splat as the pixels of a tile see it; C numbers of its attributes.
template <typename T, int C>
struct alignas(16) TileSplat {
    T p, q, r, level, u0, v0;
    T attributes[C > 0 ? C : 1];
};

struct TilePlace {
    int64_t image, first, count;  // its list
    int x, y;                     // of its corner, pixels
    int px, py;                   // of this thread's pixel, from there
    bool inside;                  // the image
    int64_t pixel;                // in the batch
    int64_t kept;                 // where what is kept of it lies
};

template <typename T>
__device__ TilePlace tile_place(const BlendArgs<T>& a, const int64_t* tiles) {
    const int64_t per_image = tiles_of(a.width, a.height), tile = blockIdx.x;
    const int columns = (a.width + kTile - 1) / kTile, index = int(tile % per_image);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    TilePlace t;
    t.image = tile / per_image;
    t.first = tiles[tile];
    t.count = tiles[tile + 1] - t.first;
    t.x = index % columns * kTile;
    t.y = index / columns * kTile;
    t.px = warp % 2 * kWarpWidth + lane % kWarpWidth;
    t.py = warp / 2 * kWarpHeight + lane / kWarpWidth;
    t.inside = t.x + t.px < a.width && t.y + t.py < a.height;
    t.pixel = (t.image * a.height + t.y + t.py) * a.width + t.x + t.px;
    t.kept = tile * kThreads + threadIdx.x;
    return t;
}

// Which of the tile's eight warps have a pixel that the splat may reach: one bit each.
template <typename T>
__device__ unsigned reached_warps(const SplatRecord<T>& s, const TilePlace& t) {
    unsigned mask = 0;
#pragma unroll
    for (int row = 0; row < kTile / kWarpHeight; ++row) {
        const T y0 = T(t.y + row * kWarpHeight) + T(0.5) - s.shape.y, y1 = y0 + T(kWarpHeight - 1);
        const T right = s.shape.x + splat_edge(s.shape.r, s.extent, T(1), y0, y1) - T(t.x);
        const T left = s.shape.x - splat_edge(s.shape.r, s.extent, T(-1), y0, y1) - T(t.x);
        if (right >= T(0.5) && left <= T(kWarpWidth - 0.5)) mask |= 1u << (row * 2);
        if (right >= T(kWarpWidth + 0.5) && left <= T(2 * kWarpWidth - 0.5)) mask |= 2u << (row * 2);
    }
    return mask;
}

// Puts a splat into shared memory; channels from `channel` on. Returns the warps that it reaches.
template <typename T, int C>
__device__ unsigned stage(const BlendArgs<T>& a, const SplatRecord<T>& s, int32_t id, const TilePlace& t, int channel,
                          TileSplat<T, C>& to) {
    const T dx = T(t.x) - s.shape.x, dy = T(t.y) - s.shape.y;
    to.p = s.shape.p;
    to.q = s.shape.q;
    to.r = s.shape.r;
    to.level = s.shape.level;
    to.u0 = multiply_add(s.shape.p, dx, s.shape.q * dy);
    to.v0 = s.shape.r * dy;
    if constexpr (C > 0 && C <= 4) {
        for (int c = 0; c < C; ++c) to.attributes[c] = s.attributes[c];
    } else if constexpr (C > 4) {
        const T* from = a.attributes + (a.attribute_images == 1 ? id % a.n : int64_t(id)) * a.c;
        for (int c = 0; c < C; ++c) to.attributes[c] = channel + c < a.c ? from[channel + c] : T(0);
    }
    return reached_warps(s, t);
}

// Turns one mask of warps per splat into one mask of splats per warp. Called by whole warps; `word` is the warp's own.
template <int Words>
__device__ void transpose_masks(unsigned mask, unsigned (&words)[kWarps][Words], int word) {
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
        const unsigned bits = __ballot_sync(kAll, (mask >> w) & 1u);
        if (threadIdx.x % 32 == 0) words[w][word] = bits;
    }
}

template <typename T, int C>
__global__ void __launch_bounds__(kThreads, kBlocks<T>) draw_kernel(BlendArgs<T> a, BlendLists<T> lists, BlendImages<T> out) {
    __shared__ TileSplat<T, C> splats[kThreads];
    __shared__ unsigned words[kWarps][kThreads / 32];
    const TilePlace t = tile_place(a, lists.tiles);
    const int warp = threadIdx.x / 32, group = blockIdx.y * C;
    const T x = T(t.px) + T(0.5), y = T(t.py) + T(0.5);
    T transmittance = t.inside ? T(1) : T(-1);  // beyond the image a pixel has ended
    T color[C] = {};
    int32_t last = 0;
    for (int64_t start = 0; start < t.count; start += kThreads) {
        if (__syncthreads_count(transmittance > T(0)) == 0) break;
        unsigned mask = 0;
        if (start + threadIdx.x < t.count) {
            const int32_t id = lists.splat_of[lists.slots[t.first + start + threadIdx.x]];
            mask = stage<T, C>(a, lists.splats[id], id, t, group, splats[threadIdx.x]);
        }
        transpose_masks(mask, words, warp);
        __syncthreads();
        for (int j = 0; j < kThreads / 32; ++j) {
            if (!__any_sync(kAll, transmittance > T(0))) break;
            for (unsigned word = words[warp][j]; word; word &= word - 1) {
                const int k = j * 32 + __ffs(word) - 1;
                const TileSplat<T, C>& s = splats[k];
                T u, v, weight;
                const T exponent = splat_exponent(s.p, s.q, s.r, s.level, s.u0, s.v0, x, y, u, v);
                if (!(exponent >= T(kSplatMinExponent)) || !(transmittance > T(0))) continue;
                if (!blend_step(exponent, transmittance, weight)) continue;
#pragma unroll
                for (int c = 0; c < C; ++c) color[c] = multiply_add(weight, s.attributes[c], color[c]);
                last = int32_t(start) + k + 1;
            }
        }
    }
    if (!t.inside) return;
    transmittance = -negative(transmittance);
    const T* background = a.background + (a.background_images == 1 ? 0 : t.image) * a.c;
#pragma unroll
    for (int c = 0; c < C; ++c)
        if (group + c < a.c) out.image[t.pixel * a.c + group + c] = multiply_add(transmittance, background[group + c], color[c]);
    if (group > 0) return;
    out.alpha[t.pixel] = T(1) - transmittance;
    if (!out.last) return;
    out.transmittance[t.kept] = transmittance;
    out.last[t.kept] = last;
}

// Sums each of N values (8 or 16) over the warp, in a fixed order; a lane returns that of value lane / (32 / N).
template <int N, typename T>
__device__ T warp_sums(T (&values)[N]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int step = 16, half = N / 2; half > 0; step /= 2, half /= 2) {
        const bool upper = lane & step;
#pragma unroll
        for (int i = 0; i < half; ++i) {
            const T mine = upper ? values[i + half] : values[i], other = upper ? values[i] : values[i + half];
            values[i] = mine + __shfl_xor_sync(kAll, other, step);
        }
    }
    T sum = values[0];
#pragma unroll
    for (int step = 32 / N / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
    return sum;
}

// Channels: C held in registers, or 0: read as they are needed. Moments, or only the gradients of the attributes.
template <typename T, int C, bool Moments, bool Absolute>
struct UndoLayout {
    static constexpr int moments = !Moments ? 0 : Absolute ? 8 : 6;
    static constexpr int values = moments + C;                       // per splat and tile
    static constexpr int width = values <= 8 ? 8 : 16;               // as many as warp_sums takes
    static constexpr int batch = sizeof(T) == 4 ? 64 : 32;           // splats at a time
    static_assert(values > 0 && values <= 16, "warp_sums takes at most 16");

    // Of a value in the record of a slot.
    static __device__ int64_t place(int value, int channel) {
        return value < moments ? value : kMoments + channel + value - moments;
    }
};

template <typename T, int C, bool Moments, bool Absolute>
__global__ void __launch_bounds__(kThreads, kUndoBlocks<T, C>) undo_kernel(BlendArgs<T> a, BlendLists<T> lists, BlendGrads<T> g, T* gradients, int64_t stride) {
    using Layout = UndoLayout<T, C, Moments, Absolute>;
    constexpr int kValues = Layout::values, kBatch = Layout::batch, kWords = kBatch / 32;
    __shared__ TileSplat<T, C> splats[kBatch];
    __shared__ T sums[kWarps][kBatch][kValues];
    __shared__ unsigned words[kWarps][kWords];
    __shared__ int32_t slots[kBatch], ids[kBatch], ends[kWarps];
    const TilePlace t = tile_place(a, lists.tiles);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = blockIdx.y * C;
    const int channels = C > 0 ? min(C, int(a.c) - group) : 0;
    const T x = T(t.px) + T(0.5), y = T(t.py) + T(0.5);
    const T* background = a.background + (a.background_images == 1 ? 0 : t.image) * a.c;
    const T* grad_pixel = g.grad_image + t.pixel * a.c;

    T grad[C > 0 ? C : 1] = {}, transmittance = T(1), behind = T(0);
    int32_t last = 0;
    if (t.inside) {
        transmittance = g.transmittance[t.kept];
        last = g.last[t.kept];
#pragma unroll
        for (int c = 0; c < C; ++c)
            if (c < channels) grad[c] = grad_pixel[group + c];
        if constexpr (Moments) {
            behind = -g.grad_alpha[t.pixel];
            if constexpr (C > 0) {
#pragma unroll
                for (int c = 0; c < C; ++c)
                    if (c < channels) behind = multiply_add(background[c], grad[c], behind);
            } else {
                for (int64_t c = 0; c < a.c; ++c) behind = multiply_add(background[c], grad_pixel[c], behind);
            }
        }
    }
    // Beyond the last splat that any pixel of the warp, and of the tile, has blended there is nothing to do.
    int32_t warp_end = last;
    for (int step = 16; step > 0; step /= 2) warp_end = max(warp_end, __shfl_xor_sync(kAll, warp_end, step));
    if (lane == 0) ends[warp] = warp_end;
    __syncthreads();
    int32_t end = 0;
    for (int w = 0; w < kWarps; ++w) end = max(end, ends[w]);
    const int values = Layout::moments + channels;
    for (int64_t i = int64_t(end) * values + threadIdx.x; i < t.count * values; i += kThreads)
        gradients[lists.slots[t.first + i / values] * stride + Layout::place(int(i % values), group)] = T(0);

    for (int32_t stop = end; stop > 0; stop -= kBatch) {
        const int32_t base = max(stop - kBatch, 0);
        const int n = stop - base;
        __syncthreads();
        if (warp < kWords) {
            unsigned mask = 0;
            if (threadIdx.x < n) {
                const int32_t slot = lists.slots[t.first + base + threadIdx.x], id = lists.splat_of[slot];
                mask = stage<T, C>(a, lists.splats[id], id, t, group, splats[threadIdx.x]);
                slots[threadIdx.x] = slot;
                ids[threadIdx.x] = id;
            }
            transpose_masks(mask, words, warp);
        }
        __syncthreads();
        for (int j = kWords - 1; j >= 0; --j) {
            const int32_t room = warp_end - base - j * 32;  // splats of this word that are not beyond the end
            unsigned word = room <= 0 ? 0u : words[warp][j] & (room >= 32 ? kAll : (1u << room) - 1u);
            unsigned written = 0;
            while (word) {
                const int bit = 31 - __clz(word), k = j * 32 + bit;
                word ^= 1u << bit;
                const TileSplat<T, C>& s = splats[k];
                T u, v;
                const T exponent = splat_exponent(s.p, s.q, s.r, s.level, s.u0, s.v0, x, y, u, v);
                const bool blended = exponent >= T(kSplatMinExponent) && last > base + k;
                if (!__any_sync(kAll, blended)) continue;
                written |= 1u << bit;
                T of[Layout::width] = {};
                if (blended) {
                    T seen = T(0), weight, slope;
                    if constexpr (C > 0) {
#pragma unroll
                        for (int c = 0; c < C; ++c) seen = multiply_add(s.attributes[c], grad[c], seen);
                    } else {
                        const T* from = a.attributes + (a.attribute_images == 1 ? ids[k] % a.n : int64_t(ids[k])) * a.c;
                        for (int64_t c = 0; c < a.c; ++c) seen = multiply_add(from[c], grad_pixel[c], seen);
                    }
                    blend_step_back(exponent, true, seen, transmittance, behind, weight, slope);
                    if constexpr (Moments) {
                        const T su = slope * u, sv = slope * v;
                        of[0] = slope;
                        of[1] = su;
                        of[2] = sv;
                        of[3] = su * u;
                        of[4] = su * v;
                        of[5] = sv * v;
                        if constexpr (Absolute) {
                            of[6] = -negative(su);
                            of[7] = -negative(multiply_add(s.q, su, s.r * sv));
                        }
                    }
#pragma unroll
                    for (int c = 0; c < C; ++c) of[Layout::moments + c] = weight * grad[c];
                }
                const T sum = warp_sums<Layout::width>(of);
                constexpr int kLanes = 32 / Layout::width;
                if (lane % kLanes == 0 && lane / kLanes < kValues) sums[warp][k][lane / kLanes] = sum;
            }
            __syncwarp();
            if (lane == 0) words[warp][j] = written;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < n * values; i += kThreads) {
            const int k = i / values, value = i % values;
            T sum = T(0);
            for (int w = 0; w < kWarps; ++w)
                if ((words[w][k / 32] >> (k % 32)) & 1u) sum += sums[w][k][value];
            gradients[slots[k] * stride + Layout::place(value, group)] = sum;
        }
    }
}

// Eight lanes add up the intersections of one splat: each lane those of every eighth slot, then all of them together.
constexpr int kLanes = 8;

// Sums eight numbers, from `offset` in the records of one splat; lane i returns that of number i.
template <typename T>
__device__ T slot_sums(const SplatRecord<T>& s, const T* gradients, int64_t stride, int64_t offset, int count, unsigned lanes) {
    const int lane = threadIdx.x % kLanes;
    T values[8] = {};
    for (int32_t k = lane; k < s.count; k += kLanes) {
        const T* from = gradients + (int64_t(s.slot) + k) * stride + offset;
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (i < count) values[i] += from[i];
    }
#pragma unroll
    for (int step = 4; step > 0; step /= 2) {
        const bool upper = lane & step;
#pragma unroll
        for (int i = 0; i < step; ++i) {
            const T mine = upper ? values[i + step] : values[i], other = upper ? values[i] : values[i + step];
            values[i] = mine + __shfl_xor_sync(lanes, other, step);
        }
    }
    return values[0];
}

template <typename T>
__global__ void __launch_bounds__(kThreads) gather_kernel(BlendArgs<T> a, const SplatRecord<T>* records, BlendGrads<T> g, const T* gradients, int64_t stride) {
    const int64_t id = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
    if (id >= a.b * a.n) return;
    const int lane = threadIdx.x % kLanes;
    const unsigned lanes = 0xFFu << (threadIdx.x % 32 / kLanes * kLanes);
    const SplatRecord<T>& s = records[id];
    const T sum = slot_sums(s, gradients, stride, 0, g.absolute ? 8 : 6, lanes);
    T m[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) m[i] = __shfl_sync(lanes, sum, i, kLanes);
    if (lane == 0) {
        SplatGradient<T> to{};
        if (s.count > 0) {
            const SplatMoments<T> moments{m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7]};
            to = splat_gradient(s.shape.p, s.shape.q, s.shape.r, a.opacities[id], moments);
        }
        g.pixels[id * 2] = to.x;
        g.pixels[id * 2 + 1] = to.y;
        g.conics[id * 3] = to.a;
        g.conics[id * 3 + 1] = to.b;
        g.conics[id * 3 + 2] = to.c;
        g.opacities[id] = to.opacity;
        if (g.absolute) {
            g.absolute[id * 2] = to.absolute_x;
            g.absolute[id * 2 + 1] = to.absolute_y;
        }
    }
    const bool shared = a.attribute_images == 1;
    if (shared && id >= a.n) return;
    for (int64_t c = 0; c < a.c; c += 8) {
        const int count = int(a.c - c < 8 ? a.c - c : 8);
        T total = T(0);
        for (int64_t i = id; i < (shared ? a.b * a.n : id + 1); i += a.n)
            total += slot_sums(records[i], gradients, stride, kMoments + c, count, lanes);
        if (lane < count) g.attributes[id * a.c + c + lane] = total;
    }
}

// The background's gradient, tile by tile: one block for eight channels of a tile.
template <typename T>
__global__ void __launch_bounds__(kThreads) background_kernel(BlendArgs<T> a, BlendLists<T> lists, BlendGrads<T> g) {
    __shared__ T sums[kWarps][kGroup];
    const TilePlace t = tile_place(a, lists.tiles);
    const int group = blockIdx.y * kGroup, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    T of[kGroup] = {};
    if (t.inside) {
        const T transmittance = g.transmittance[t.kept];
#pragma unroll
        for (int c = 0; c < kGroup; ++c)
            if (group + c < a.c) of[c] = transmittance * g.grad_image[t.pixel * a.c + group + c];
    }
    const T sum = warp_sums<kGroup>(of);
    if (lane % (32 / kGroup) == 0) sums[warp][lane / (32 / kGroup)] = sum;
    __syncthreads();
    if (threadIdx.x >= kGroup || group + int(threadIdx.x) >= a.c) return;
    T total = T(0);
    for (int w = 0; w < kWarps; ++w) total += sums[w][threadIdx.x];
    g.background[blockIdx.x * a.c + group + threadIdx.x] = total;
}

template <typename T, int C>
void draw(const BlendArgs<T>& a, const BlendLists<T>& lists, const BlendImages<T>& out, unsigned groups, cudaStream_t s) {
    draw_kernel<T, C><<<dim3(unsigned(a.b * tiles_of(a.width, a.height)), groups), kThreads, 0, s>>>(a, lists, out);
}

template <typename T, int C, bool Moments>
void undo(const BlendArgs<T>& a, const BlendLists<T>& lists, const BlendGrads<T>& g, T* gradients, unsigned groups, cudaStream_t s) {
    const dim3 grid(unsigned(a.b * tiles_of(a.width, a.height)), groups);
    const int64_t stride = blend_splats_stride(a.c);
    if constexpr (Moments) {
        if (g.absolute) {
            undo_kernel<T, C, true, true><<<grid, kThreads, 0, s>>>(a, lists, g, gradients, stride);
            return;
        }
    }
    undo_kernel<T, C, Moments, false><<<grid, kThreads, 0, s>>>(a, lists, g, gradients, stride);
}

}  // namespace

template <typename T>
void blend_splats_forward(const BlendArgs<T>& a, const BlendLists<T>& lists, void* count_scratch, void* sort_scratch,
                          int64_t total, const BlendImages<T>& out, uint64_t stream) {
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    if (a.b == 0) return;
    blend_splats_lists(a, lists, count_scratch, sort_scratch, total, stream);
    switch (a.c) {
        case 1: draw<T, 1>(a, lists, out, 1, s); break;
        case 2: draw<T, 2>(a, lists, out, 1, s); break;
        case 3: draw<T, 3>(a, lists, out, 1, s); break;
        case 4: draw<T, 4>(a, lists, out, 1, s); break;
        default: draw<T, kGroup>(a, lists, out, unsigned(a.c < 1 ? 1 : (a.c + kGroup - 1) / kGroup), s);
    }
    check_launch("blend_splats_forward");
}

template <typename T>
void blend_splats_backward(const BlendArgs<T>& a, const BlendLists<T>& lists, const BlendGrads<T>& g, T* gradients,
                           uint64_t stream) {
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    const unsigned groups = unsigned((a.c + kGroup - 1) / kGroup);
    if (g.background && a.b * a.c > 0)
        background_kernel<<<dim3(unsigned(a.b * tiles_of(a.width, a.height)), groups), kThreads, 0, s>>>(a, lists, g);
    if (a.b * a.n == 0) {
        cudaMemsetAsync(g.attributes, 0, size_t(a.attribute_images * a.n * a.c) * sizeof(T), s);
        return;
    }
    switch (a.c) {
        case 1: undo<T, 1, true>(a, lists, g, gradients, 1, s); break;
        case 2: undo<T, 2, true>(a, lists, g, gradients, 1, s); break;
        case 3: undo<T, 3, true>(a, lists, g, gradients, 1, s); break;
        case 4: undo<T, 4, true>(a, lists, g, gradients, 1, s); break;
        case 5:
        case 6:
        case 7:
        case 8: undo<T, kGroup, true>(a, lists, g, gradients, 1, s); break;
        default:  // the moments with all channels, then the attributes' gradients in groups
            undo<T, 0, true>(a, lists, g, gradients, 1, s);
            if (a.c > 0) undo<T, kGroup, false>(a, lists, g, gradients, groups, s);
    }
    gather_kernel<<<blocks_for(a.b * a.n * kLanes, kThreads), kThreads, 0, s>>>(a, lists.splats, g, gradients, blend_splats_stride(a.c));
    check_launch("blend_splats_backward");
}

template void blend_splats_forward<float>(const BlendArgs<float>&, const BlendLists<float>&, void*, void*, int64_t,
                                          const BlendImages<float>&, uint64_t);
template void blend_splats_forward<double>(const BlendArgs<double>&, const BlendLists<double>&, void*, void*, int64_t,
                                           const BlendImages<double>&, uint64_t);
template void blend_splats_backward<float>(const BlendArgs<float>&, const BlendLists<float>&, const BlendGrads<float>&,
                                           float*, uint64_t);
template void blend_splats_backward<double>(const BlendArgs<double>&, const BlendLists<double>&, const BlendGrads<double>&,
                                            double*, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
