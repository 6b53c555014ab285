// Which splats reach which tiles, and in what order. Included by blend_splats_cpu.cpp alone, once for each instruction set.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "blend_splats/blend_splats.h"
#include "blend_splats/powers.h"
#include "common/pack.h"
#include "common/parallel.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

inline int tile_columns(int width) { return (width + kSplatTile - 1) / kSplatTile; }

// Lanes 0 to 7 are the right edges of eight rows of cells, lanes 8 to 15 the left edges.
template <typename T>
struct EdgeLanes {
    alignas(64) T side[kPack], row[kPack], low[kPack], high[kPack];
    constexpr EdgeLanes() : side(), row(), low(), high() {
        for (int l = 0; l < kPack; ++l) {
            side[l] = l < 8 ? T(1) : T(-1);
            row[l] = T(l % 8);
            low[l] = l < 8 ? T(-1) : T(-8);
            high[l] = l < 8 ? T(7.5) : T(0.5);
        }
    }
};
template <typename T>
constexpr EdgeLanes<T> kEdgeLanes{};

AVATAR3D_INLINE uint64_t row_bits(const Pack<double>& column) {
    uint64_t cells = 0;
    for (int k = 0; k < 8; ++k) {
        const unsigned right = 0xFFu >> (23 - int(column[k])), left = 0xFFu << (16 - int(column[k + 8]));
        cells |= uint64_t(right & left & 0xFFu) << (8 * k);
    }
    return cells;
}
AVATAR3D_INLINE uint64_t row_bits(const Pack<float>& column) {
#ifdef __AVX512F__
    const __m512i n = _mm512_cvttps_epi32(column.v);
    const __m256i all = _mm256_set1_epi32(0xFF);
    const __m256i right = _mm256_srlv_epi32(all, _mm256_sub_epi32(_mm256_set1_epi32(23), _mm512_castsi512_si256(n)));
    const __m256i left = _mm256_sllv_epi32(all, _mm256_sub_epi32(_mm256_set1_epi32(16), _mm512_extracti64x4_epi64(n, 1)));
    return uint64_t(_mm_cvtsi128_si64(_mm256_cvtepi32_epi8(_mm256_and_si256(right, left))));
#else
    alignas(64) float f[kPack];
    column.store(f);
    int32_t bits[8];
    for (int k = 0; k < 8; ++k) bits[k] = (0xFF >> (23 - int32_t(f[k]))) & (0xFF << (16 - int32_t(f[k + 8])));
    uint64_t cells = 0;
    for (int k = 0; k < 8; ++k) cells |= uint64_t(bits[k] & 0xFF) << (8 * k);
    return cells;
#endif
}

// Which cells of a grid of 8 x 8, each `pitch` pixels wide, have a pixel centre that the splat may reach; bit 8 y + x.
template <typename T>
AVATAR3D_INLINE uint64_t splat_cells(const SplatRecord<T>& s, T corner_x, T corner_y, int pitch) {
    using V = Pack<T>;
    const EdgeLanes<T>& lanes = kEdgeLanes<T>;
    const V side = V::load(lanes.side), size = V(T(pitch));
    const SplatExtent<V> e{V(s.extent.reach), V(s.extent.turn), V(s.extent.skew), V(s.extent.inverse_p)};
    const V y0 = multiply_add(V::load(lanes.row), size, V(corner_y + T(0.5) - s.shape.y));
    const V edge = splat_edge(V(s.shape.r), e, side, y0, y0 + V(T(pitch - 1)));
    const V outwards = multiply_add(side, V(s.shape.x - corner_x), edge);
    // To the right the last cell whose first centre is reached, to the left the first whose last centre is.
    const V column = (outwards - V(0.5)) * V(T(1) / T(pitch)) + (V(0.5) - V(0.5) * side);
    return row_bits(most(least(column, V::load(lanes.high)), V::load(lanes.low)) + V(16.0));
}

// The first `columns` x `rows` cells.
inline uint64_t cells_of(int columns, int rows) {
    const uint64_t row = 0xFFu >> (8 - std::min(columns, 8)), all = row * 0x0101010101010101u;
    return rows >= 8 ? all : all & ((uint64_t(1) << (8 * rows)) - 1);
}

template <typename F>
AVATAR3D_INLINE void each_bit(uint64_t bits, F&& visit) {
    for (; bits; bits &= bits - 1) visit(__builtin_ctzll(bits));
}

// visit(tile) for every tile of the image that the splat reaches.
template <typename T, typename F>
AVATAR3D_INLINE void each_tile(const SplatRecord<T>& s, const SplatBox& box, int columns, F&& visit) {
    if (box.columns <= 8 && box.rows <= 8) {
        const int first = box.y * columns + box.x;
        each_bit(box.cells, [&](int i) { visit(first + (i >> 3) * columns + (i & 7)); });
        return;
    }
    for (int y = 0; y < box.rows; y += 8) {
        for (int x = 0; x < box.columns; x += 8) {
            const int first = (box.y + y) * columns + box.x + x;
            uint64_t cells = splat_cells(s, T((box.x + x) * kSplatTile), T((box.y + y) * kSplatTile), kSplatTile);
            cells &= cells_of(box.columns - x, box.rows - y);
            each_bit(cells, [&](int i) { visit(first + (i >> 3) * columns + (i & 7)); });
        }
    }
}

// Splats [first, last) of one image, sixteen at a time: records and boxes.
template <typename T>
void set_up(const BlendArgs<T>& a, int64_t image, int64_t first, int64_t last, SplatRecord<T>* records, SplatBox* boxes) {
    using V = Pack<T>;
    const int columns = tile_columns(a.width), rows = tile_columns(a.height);
    const int64_t base = image * a.n;
    const T* attributes = a.attributes + (a.attribute_images == 1 ? 0 : image) * a.n * a.c;
    alignas(64) T in[6][kPack], out[10][kPack], box[4][kPack];
    for (int64_t i0 = first; i0 < last; i0 += kPack) {
        const int count = int(std::min<int64_t>(kPack, last - i0));
        for (int l = 0; l < kPack; ++l) {
            const int64_t i = base + i0 + std::min(l, count - 1);
            in[0][l] = a.pixels[i * 2];
            in[1][l] = a.pixels[i * 2 + 1];
            in[2][l] = a.conics[i * 3];
            in[3][l] = a.conics[i * 3 + 1];
            in[4][l] = a.conics[i * 3 + 2];
            in[5][l] = a.opacities[i];
        }
        SplatShape<V> shape;
        const auto drawn = splat_shape(V::load(in[0]), V::load(in[1]), V::load(in[2]), V::load(in[3]), V::load(in[4]),
                                       V::load(in[5]), shape);
        const SplatExtent<V> extent = splat_extent(shape);
        const V half_width = splat_half_width(shape, extent), half_height = splat_half_height(shape, extent);
        const V zero(0.0), half(0.5), per_tile(1.0 / kSplatTile);
        // The first tile whose last centre is reached, and the last whose first centre is; a NaN takes the whole side.
        const V limit_x{T(columns)}, limit_y{T(rows)};
        const auto clamp = [&](V v, V limit) { return most(least(v, limit), V(-1.0)); };
        clamp(select(half_width < V(1e9), (shape.x - half_width - V(kSplatTile - 0.5)) * per_tile, V(-1.0)), limit_x).store(box[0]);
        clamp(select(half_width < V(1e9), (shape.x + half_width - half) * per_tile, limit_x), limit_x).store(box[1]);
        clamp(select(half_height < V(1e9), (shape.y - half_height - V(kSplatTile - 0.5)) * per_tile, V(-1.0)), limit_y).store(box[2]);
        clamp(select(half_height < V(1e9), (shape.y + half_height - half) * per_tile, limit_y), limit_y).store(box[3]);
        shape.x.store(out[0]);
        shape.y.store(out[1]);
        shape.p.store(out[2]);
        shape.q.store(out[3]);
        shape.r.store(out[4]);
        shape.level.store(out[5]);
        extent.reach.store(out[6]);
        extent.turn.store(out[7]);
        extent.skew.store(out[8]);
        extent.inverse_p.store(out[9]);
        const unsigned draw = bits(drawn);
        for (int l = 0; l < count; ++l) {
            const int64_t i = i0 + l;
            SplatRecord<T>& record = records[base + i];
            SplatBox& to = boxes[base + i];
            record.count = 0;
            to = SplatBox{0, 0, 0, 0, 0};
            const int x0 = int(std::ceil(box[0][l])), x1 = std::min(int(std::floor(box[1][l])), columns - 1);
            const int y0 = int(std::ceil(box[2][l])), y1 = std::min(int(std::floor(box[3][l])), rows - 1);
            const int left = std::max(x0, 0), top = std::max(y0, 0);
            if (!((draw >> l) & 1) || x1 < left || y1 < top) continue;
            T nothing = a.depths[base + i] - a.depths[base + i];
            for (int64_t k = 0; k < a.c; ++k) nothing += attributes[i * a.c + k] - attributes[i * a.c + k];
            if (!(nothing == T(0))) continue;
            T fields[10];
            for (int k = 0; k < 10; ++k) fields[k] = out[k][l];
            std::memcpy(static_cast<void*>(&record), fields, sizeof(fields));
            for (int k = 0; k < 4; ++k) record.attributes[k] = k < a.c && a.c <= 4 ? attributes[i * a.c + k] : T(0);
            to.x = int16_t(left);
            to.y = int16_t(top);
            to.columns = int16_t(x1 - left + 1);
            to.rows = int16_t(y1 - top + 1);
            if (to.columns > 8 || to.rows > 8) continue;
            to.cells = cells_of(to.columns, to.rows);
            if (to.columns > 1 && to.rows > 1) to.cells &= splat_cells(record, T(left * kSplatTile), T(top * kSplatTile), kSplatTile);
        }
    }
}

inline std::pair<int64_t, int64_t> chunk_of(int64_t n, int64_t chunk) {
    const int64_t size = ((n + kSplatChunks - 1) / kSplatChunks + kPack - 1) / kPack * kPack;
    return {std::min(n, chunk * size), std::min(n, (chunk + 1) * size)};
}

// Bits that sort as the numbers do.
inline uint64_t ordered_bits(float x) {
    uint32_t bits;
    x += 0.0f;  // -0 is 0
    std::memcpy(&bits, &x, 4);
    return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}
inline uint64_t ordered_bits(double x) {
    uint64_t bits;
    x += 0.0;
    std::memcpy(&bits, &x, 8);
    return bits ^ (bits >> 63 ? ~uint64_t(0) : uint64_t(1) << 63);
}

// Lists of all tiles, each in the order of the splats' indices, with the depth's bits in the place of `blocks`.
template <typename T>
void fill(const BlendArgs<T>& a, const BlendScratch& s, int threads) {
    const int columns = tile_columns(a.width);
    const int64_t tiles = int64_t(columns) * tile_columns(a.height);
    auto* records = static_cast<SplatRecord<T>*>(s.splats);
    std::vector<int32_t> slots(a.b * kSplatChunks);
    int64_t total = 0;
    for (int64_t image = 0; image < a.b; ++image) {
        int32_t* counts = s.counts + image * kSplatChunks * tiles;
        int64_t slot = total;
        for (int64_t chunk = 0; chunk < kSplatChunks; ++chunk) {
            slots[image * kSplatChunks + chunk] = int32_t(slot);
            for (int64_t tile = 0; tile < tiles; ++tile) slot += counts[chunk * tiles + tile];
        }
        for (int64_t tile = 0; tile < tiles; ++tile) {
            s.tiles[image * tiles + tile] = total;
            for (int64_t chunk = 0; chunk < kSplatChunks; ++chunk) {
                int32_t& count = counts[chunk * tiles + tile];
                const int64_t first = total;
                total += count;
                count = int32_t(first);
            }
        }
    }
    s.tiles[a.b * tiles] = total;
    parallel_for(a.b * kSplatChunks, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t c = begin; c < end; ++c) {
            const int64_t base = c / kSplatChunks * a.n;
            const auto range = chunk_of(a.n, c % kSplatChunks);
            int32_t* next = s.counts + c * tiles;
            int32_t slot = slots[c];
            for (int64_t i = base + range.first; i < base + range.second; ++i) {
                if (records[i].count == 0) continue;
                records[i].slot = slot;
                const uint64_t key = ordered_bits(a.depths[i]);
                each_tile(records[i], s.boxes[i], columns, [&](int tile) {
                    s.intersections[next[tile]++] = SplatIntersection{int32_t(i), slot++, key};
                });
            }
        }
    });
}

// Sorts one tile's list by depth, keeping the order of equals.
class DepthSort {
   public:
    void operator()(SplatIntersection* list, int64_t n) {
        if (n < 2) return;
        uint64_t low = list[0].blocks, high = low;
        for (int64_t i = 1; i < n; ++i) {
            low = std::min(low, list[i].blocks);
            high = std::max(high, list[i].blocks);
        }
        if (low == high) return;
        if (high - low > 0xFFFFFFFFu || n > 0x7FFFFFFF) {
            std::stable_sort(list, list + n, [](const SplatIntersection& x, const SplatIntersection& y) { return x.blocks < y.blocks; });
            return;
        }
        if (int64_t(items_.size()) < 2 * n) {
            items_.resize(2 * n);
            copies_.resize(n);
        }
        uint64_t *from = items_.data(), *to = from + n;
        for (int64_t i = 0; i < n; ++i) {
            from[i] = (list[i].blocks - low) << 32 | uint64_t(i);
            copies_[i] = {list[i].splat, list[i].slot};
        }
        if (n < 64) {
            std::sort(from, from + n);
        } else {
            const int bits = 64 - __builtin_clzll(high - low), passes = (bits + 10) / 11, digit = (bits + passes - 1) / passes;
            const uint64_t mask = (uint64_t(1) << digit) - 1;
            std::memset(places_, 0, sizeof(places_[0]) * passes);
            for (int64_t i = 0; i < n; ++i)
                for (int p = 0; p < passes; ++p) ++places_[p][(from[i] >> (32 + p * digit)) & mask];
            for (int p = 0; p < passes; ++p) {
                uint32_t place = 0;
                for (uint64_t k = 0; k <= mask; ++k) {
                    const uint32_t count = places_[p][k];
                    places_[p][k] = place;
                    place += count;
                }
                for (int64_t i = 0; i < n; ++i) to[places_[p][(from[i] >> (32 + p * digit)) & mask]++] = from[i];
                std::swap(from, to);
            }
        }
        for (int64_t i = 0; i < n; ++i) {
            const auto& copy = copies_[uint32_t(from[i])];
            list[i].splat = copy.first;
            list[i].slot = copy.second;
        }
    }

   private:
    std::vector<uint64_t> items_;
    std::vector<std::pair<int32_t, int32_t>> copies_;
    uint32_t places_[3][2048];
};

// fn(index, worker) for every index, handed out one by one.
template <typename F>
void parallel_each(int64_t n, int threads, F&& fn) {
    std::atomic<int64_t> next{0};
    const int workers = int(std::max<int64_t>(1, std::min<int64_t>(threads, n)));
    parallel_for(workers, 1, workers, [&](int64_t, int64_t, int worker) {
        for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) fn(i, worker);
    });
}

}  // namespace
}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
