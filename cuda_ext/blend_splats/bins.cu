// Which splats reach which tiles, and in what order.
#include "blend_splats/blend_splats_cuda.h"
#include "common/cuda.h"
#include "common/radix.h"

namespace avatar3d {
namespace cuda {
namespace {

constexpr int kThreads = 128;

template <typename T>
struct DepthKey {
    using type = uint32_t;
};
template <>
struct DepthKey<double> {
    using type = uint64_t;
};
template <typename T>
using Key = typename DepthKey<T>::type;

// Bits that sort as the numbers do; -0 is 0.
__device__ uint32_t ordered_bits(float x) {
    const uint32_t bits = __float_as_uint(x + 0.0f);
    return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}
__device__ uint64_t ordered_bits(double x) {
    const uint64_t bits = uint64_t(__double_as_longlong(x + 0.0));
    return bits ^ (bits >> 63 ? ~uint64_t(0) : uint64_t(1) << 63);
}

int64_t aligned(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// Scratch is one piece of memory, cut up in the same way wherever it is looked at.
struct Cutter {
    char* at;
    template <typename U>
    U* take(int64_t n) {
        U* const p = reinterpret_cast<U*>(at);
        at += aligned(n * int64_t(sizeof(U)));
        return p;
    }
};

template <typename T>
struct CountScratch {
    Key<T>*keys, *sorted_keys;
    int32_t *ids, *order;  // of the splats: as they are, and by depth
    int64_t* ends;         // [k]: intersections of the k + 1 nearest splats
    void* cub;

    CountScratch(void* memory, int64_t n) {
        Cutter cut{static_cast<char*>(memory)};
        keys = cut.take<Key<T>>(n);
        sorted_keys = cut.take<Key<T>>(n);
        ids = cut.take<int32_t>(n);
        order = cut.take<int32_t>(n);
        ends = cut.take<int64_t>(n);
        cub = cut.at;
    }
    static size_t cub_bytes(int64_t n) {
        size_t sort = 0, sums = 0;
        sort_pairs<Key<T>>(nullptr, sort, nullptr, nullptr, nullptr, nullptr, n, int(8 * sizeof(T)), 0);
        inclusive_sums(nullptr, sums, nullptr, nullptr, n, 0);
        return sort > sums ? sort : sums;
    }
    static int64_t bytes(int64_t n) {
        return aligned(n * int64_t(sizeof(Key<T>))) * 2 + aligned(n * 4) * 2 + aligned(n * 8) + int64_t(cub_bytes(n));
    }
};

struct SortScratch {
    uint32_t *keys, *sorted_keys;  // tiles of all images
    int32_t* slots;
    void* cub;

    SortScratch(void* memory, int64_t total) {
        Cutter cut{static_cast<char*>(memory)};
        keys = cut.take<uint32_t>(total);
        sorted_keys = cut.take<uint32_t>(total);
        slots = cut.take<int32_t>(total);
        cub = cut.at;
    }
};

int bits_of(int64_t n) {
    int bits = 1;
    while (bits < 32 && (int64_t(1) << bits) < n) ++bits;
    return bits;
}

struct Span {
    int first, last;
};

template <typename T>
__device__ int clamped(T v, int limit) {
    return int(least(most(v, T(-1)), T(limit)));
}

// Rows of tiles that the splat may reach.
template <typename T>
__device__ Span tile_rows(const SplatRecord<T>& s, int height) {
    const int rows = (height + kTile - 1) / kTile;
    const T half = splat_half_height(s.shape, s.extent);
    if (!(half < T(1e9))) return {0, rows - 1};
    const T first = ceil((s.shape.y - half - T(kTile - 0.5)) / T(kTile)), last = floor((s.shape.y + half - T(0.5)) / T(kTile));
    return {max(clamped(first, rows), 0), min(clamped(last, rows), rows - 1)};
}

// Columns that it may reach in one row. Never inlined: counting and listing must agree to the last bit.
template <typename T>
__device__ __noinline__ Span tile_columns(const SplatRecord<T>* s, int row, int width, int height) {
    const int columns = (width + kTile - 1) / kTile;
    const T y0 = T(row * kTile) + T(0.5) - s->shape.y, y1 = T(min((row + 1) * kTile, height)) - T(0.5) - s->shape.y;
    const T right = s->shape.x + splat_edge(s->shape.r, s->extent, T(1), y0, y1);
    const T left = s->shape.x - splat_edge(s->shape.r, s->extent, T(-1), y0, y1);
    const int first = clamped<T>(ceil((left - T(kTile - 0.5)) / T(kTile)), columns);
    const int last = clamped<T>(floor((right - T(0.5)) / T(kTile)), columns);
    return {max(first, 0), min(last, columns - 1)};
}

template <typename T>
__device__ bool finite_attributes(const BlendArgs<T>& a, int64_t id) {
    const T* from = a.attributes + (a.attribute_images == 1 ? id % a.n : id) * a.c;
    T nothing = T(0);
    for (int64_t c = 0; c < a.c; ++c) nothing += from[c] - from[c];
    return nothing == T(0);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) count_kernel(BlendArgs<T> a, SplatRecord<T>* records, CountScratch<T> scratch) {
    const int64_t id = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (id >= a.b * a.n) return;
    SplatRecord<T> record{};
    const T depth = a.depths[id];
    bool drawn = splat_shape(a.pixels[id * 2], a.pixels[id * 2 + 1], a.conics[id * 3], a.conics[id * 3 + 1],
                             a.conics[id * 3 + 2], a.opacities[id], record.shape);
    drawn = drawn && depth - depth == T(0) && finite_attributes(a, id);
    if (drawn) {
        record.extent = splat_extent(record.shape);
        const T* from = a.attributes + (a.attribute_images == 1 ? id % a.n : id) * a.c;
        for (int c = 0; c < 4; ++c) record.attributes[c] = c < a.c ? from[c] : T(0);
        const Span rows = tile_rows(record, a.height);
        records[id] = record;
        for (int y = rows.first; y <= rows.last; ++y) {
            const Span columns = tile_columns(records + id, y, a.width, a.height);
            record.count += max(columns.last - columns.first + 1, 0);
        }
        records[id].count = record.count;
    } else {
        records[id].count = 0;
    }
    scratch.keys[id] = record.count > 0 ? ordered_bits(depth) : ~Key<T>(0);
    scratch.ids[id] = int32_t(id);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) ordered_counts_kernel(const SplatRecord<T>* records, CountScratch<T> scratch, int64_t n) {
    const int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (k < n) scratch.ends[k] = records[scratch.order[k]].count;
}

// Intersections in order of depth: tiles as keys, slots as values.
template <typename T>
__global__ void __launch_bounds__(kThreads) list_kernel(BlendArgs<T> a, BlendLists<T> lists, CountScratch<T> scratch, SortScratch to) {
    const int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (k >= a.b * a.n) return;
    const int32_t id = scratch.order[k];
    SplatRecord<T>* record = lists.splats + id;
    const int32_t count = record->count;
    if (count == 0) return;
    int32_t slot = int32_t(scratch.ends[k] - count);
    record->slot = slot;
    const int columns = (a.width + kTile - 1) / kTile;
    const int64_t image = id / a.n;
    const Span rows = tile_rows(*record, a.height);
    for (int y = rows.first; y <= rows.last; ++y) {
        const Span span = tile_columns(record, y, a.width, a.height);
        const uint32_t row = uint32_t(image * tiles_of(a.width, a.height) + int64_t(y) * columns);
        for (int x = span.first; x <= span.last; ++x, ++slot) {
            to.keys[slot] = row + x;
            to.slots[slot] = slot;
            lists.splat_of[slot] = id;
        }
    }
}

// tiles[t] = number of intersections in tiles before t.
__global__ void __launch_bounds__(kThreads) starts_kernel(const uint32_t* keys, int64_t total, int64_t tiles, int64_t* starts) {
    const int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (k > total) return;
    const int64_t from = k == 0 ? 0 : int64_t(keys[k - 1]) + 1, to = k == total ? tiles : int64_t(keys[k]);
    for (int64_t t = from; t <= to; ++t) starts[t] = k;
}

}  // namespace

int64_t blend_splats_count_bytes(int64_t splats, bool wide) {
    return wide ? CountScratch<double>::bytes(splats) : CountScratch<float>::bytes(splats);
}

int64_t blend_splats_sort_bytes(int64_t total, int64_t tiles) {
    size_t cub = 0;
    sort_pairs<uint32_t>(nullptr, cub, nullptr, nullptr, nullptr, nullptr, total, bits_of(tiles), 0);
    return aligned(total * 4) * 3 + int64_t(cub);
}

template <typename T>
int64_t blend_splats_count(const BlendArgs<T>& a, const BlendLists<T>& lists, void* count_scratch, uint64_t stream) {
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    const int64_t n = a.b * a.n;
    if (n == 0) return 0;
    const CountScratch<T> scratch(count_scratch, n);
    size_t bytes = CountScratch<T>::cub_bytes(n);
    count_kernel<<<blocks_for(n, kThreads), kThreads, 0, s>>>(a, lists.splats, scratch);
    sort_pairs<Key<T>>(scratch.cub, bytes, scratch.keys, scratch.sorted_keys, scratch.ids, scratch.order, n,
                       int(8 * sizeof(T)), stream);
    ordered_counts_kernel<<<blocks_for(n, kThreads), kThreads, 0, s>>>(lists.splats, scratch, n);
    bytes = CountScratch<T>::cub_bytes(n);
    inclusive_sums(scratch.cub, bytes, scratch.ends, scratch.ends, n, stream);
    int64_t total = 0;
    cudaMemcpyAsync(&total, scratch.ends + n - 1, sizeof(total), cudaMemcpyDeviceToHost, s);
    cudaStreamSynchronize(s);
    check_launch("blend_splats_count");
    return total;
}

template <typename T>
void blend_splats_lists(const BlendArgs<T>& a, const BlendLists<T>& lists, void* count_scratch, void* sort_scratch,
                        int64_t total, uint64_t stream) {
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    const int64_t n = a.b * a.n, tiles = a.b * tiles_of(a.width, a.height);
    const SortScratch to(sort_scratch, total);
    if (total > 0) {
        list_kernel<<<blocks_for(n, kThreads), kThreads, 0, s>>>(a, lists, CountScratch<T>(count_scratch, n), to);
        size_t bytes = size_t(blend_splats_sort_bytes(total, tiles) - aligned(total * 4) * 3);
        sort_pairs<uint32_t>(to.cub, bytes, to.keys, to.sorted_keys, to.slots, lists.slots, total, bits_of(tiles), stream);
    }
    starts_kernel<<<blocks_for(total + 1, kThreads), kThreads, 0, s>>>(to.sorted_keys, total, tiles, lists.tiles);
    check_launch("blend_splats_lists");
}

template int64_t blend_splats_count<float>(const BlendArgs<float>&, const BlendLists<float>&, void*, uint64_t);
template int64_t blend_splats_count<double>(const BlendArgs<double>&, const BlendLists<double>&, void*, uint64_t);
template void blend_splats_lists<float>(const BlendArgs<float>&, const BlendLists<float>&, void*, void*, int64_t, uint64_t);
template void blend_splats_lists<double>(const BlendArgs<double>&, const BlendLists<double>&, void*, void*, int64_t, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
