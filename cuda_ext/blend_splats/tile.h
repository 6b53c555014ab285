// One tile: its pixels in blocks of 4 x 4, in and out of images. Included by blend_splats_cpu.cpp alone.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "blend_splats/bins.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

constexpr int kTilePixels = kSplatTile * kSplatTile;
constexpr int kTileBlocks = kTilePixels / kPack;
static_assert(kTileBlocks == 64 && kSplatBlock * kSplatBlock == kPack, "one bit a block, one lane a pixel");

// A pixel's block, and its lane there.
inline constexpr int block_of(int x, int y) { return y / kSplatBlock * 8 + x / kSplatBlock; }
inline constexpr int lane_of(int x, int y) { return y % kSplatBlock * kSplatBlock + x % kSplatBlock; }

// Centres of the pixels of every column and row of blocks, from the tile's corner.
template <typename T>
struct Centres {
    alignas(64) T x[8][kPack], y[8][kPack];
    constexpr Centres() : x(), y() {
        for (int k = 0; k < 8; ++k)
            for (int l = 0; l < kPack; ++l) {
                x[k][l] = T(k * kSplatBlock + l % kSplatBlock) + T(0.5);
                y[k][l] = T(k * kSplatBlock + l / kSplatBlock) + T(0.5);
            }
    }
};
template <typename T>
constexpr Centres<T> kCentres{};

// Where a tile lies.
struct Tile {
    int64_t image, index;   // image of the batch; number of the tile in all images
    int x, y, width, height;
    int64_t first, count;   // its list

    template <typename T>
    Tile(const BlendArgs<T>& a, const BlendScratch& s, int64_t index) : index(index) {
        const int64_t columns = tile_columns(a.width), tiles = columns * tile_columns(a.height);
        image = index / tiles;
        x = int(index % tiles % columns) * kSplatTile;
        y = int(index % tiles / columns) * kSplatTile;
        width = std::min(kSplatTile, a.width - x);
        height = std::min(kSplatTile, a.height - y);
        first = s.tiles[index];
        count = s.tiles[index + 1] - first;
    }
    bool whole() const { return width == kSplatTile && height == kSplatTile; }
    uint64_t blocks() const { return cells_of((width + kSplatBlock - 1) / kSplatBlock, (height + kSplatBlock - 1) / kSplatBlock); }
};

// A tile's list is worked on in chunks of kChunkSplats. Their items, one for each block that a splat reaches, get their
// alphas in one loop and are blended in the next, some kChunkItems at a time: each loop is short, free of branches, and
// its rounds do not wait for each other.
constexpr int kChunkSplats = 32, kChunkItems = 256;
constexpr int kAhead = 16;  // splats whose records are fetched in advance

// A splat as all pixels of a tile see it: what splat_exponent takes, and its first four attributes.
template <typename T>
struct TileSplat {
    T p, q, r, level, u0, v0, attributes[4];
    T place;  // one more than its place in the tile's list
};

template <typename T>
AVATAR3D_INLINE TileSplat<T> tile_splat(const SplatRecord<T>& record, const Tile& t, int64_t place) {
    const SplatShape<T>& s = record.shape;
    const T dx = T(t.x) - s.x, dy = T(t.y) - s.y;
    TileSplat<T> out{s.p, s.q, s.r, s.level, avatar3d::multiply_add(s.p, dx, s.q * dy), s.r * dy, {}, T(place)};
    for (int c = 0; c < 4; ++c) out.attributes[c] = record.attributes[c];
    return out;
}

struct Item {
    int16_t block, splat;  // splat of the chunk
};
constexpr int32_t kLanes[kPack] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Memory of one thread, kept from call to call.
template <typename T>
struct TileMemory {
    TileSplat<T> splats[kChunkSplats];
    Item items[kChunkItems + 64 + kPack];
    alignas(64) T alpha[kChunkItems + 64][kPack], u[kChunkItems + 64][kPack], v[kChunkItems + 64][kPack];
    std::vector<T> pixels, sums;
    DepthSort sort;

    // `kinds` numbers for every pixel, aligned to 64 bytes. What belongs to one block lies together, kPack numbers of
    // each kind: in arrays of their own, all a multiple of 4096 bytes apart, they would get into each other's way.
    T* blocks(int64_t kinds) {
        pixels.resize(kinds * kTilePixels + kPack);
        return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(pixels.data()) + 63) & ~uintptr_t(63));
    }

    // Adds the items of one splat; returns their new number.
    AVATAR3D_INLINE int add_items(int count, int splat, uint64_t blocks) {
        const int end = count + __builtin_popcountll(blocks);
#ifdef __AVX512F__
        const __m512i pair = _mm512_add_epi32(_mm512_set1_epi32(splat << 16), _mm512_loadu_si512(kLanes));
        for (int k = 0; k < 64; k += 16, blocks >>= 16) {
            const __m512i some = _mm512_maskz_compress_epi32(__mmask16(blocks), pair);
            _mm512_storeu_si512(items + count, _mm512_add_epi32(some, _mm512_set1_epi32(k)));
            count += __builtin_popcount(unsigned(blocks & 0xFFFF));
        }
        return count;
#endif
        for (; count < end; count += 4) {  // four at a time: what is too much is written over
            for (int k = 0; k < 4; ++k) {
                items[count + k] = Item{int16_t(__builtin_ctzll(blocks | uint64_t(1) << 63)), int16_t(splat)};
                blocks &= blocks - 1;
            }
        }
        return end;
    }
};

// fn(block, lane, pixel) for all pixels of the tile that lie in the image; pixel counts through the whole batch.
template <typename T, typename F>
AVATAR3D_INLINE void each_pixel(const BlendArgs<T>& a, const Tile& t, F&& fn) {
    for (int y = 0; y < t.height; ++y) {
        const int64_t row = (t.image * a.height + t.y + y) * a.width + t.x;
        for (int x = 0; x < t.width; ++x) fn(block_of(x, y), lane_of(x, y), row + x);
    }
}

// Four pixels of one row of one block: what images and blocks have in common. Anything wider would be written in parts
// and read as a whole, for which the processor waits until the parts have reached the cache.
template <typename T>
struct Quad {
    typedef T V __attribute__((vector_size(4 * sizeof(T))));
    V v;

    static AVATAR3D_INLINE Quad load(const T* p) {
        Quad q;
        std::memcpy(&q.v, p, sizeof(q.v));
        return q;
    }
    AVATAR3D_INLINE void store(T* p) const { std::memcpy(p, &v, sizeof(v)); }
};

// Channels [C] of four pixels to an image, and back.
template <typename T, int C>
AVATAR3D_INLINE void interleave(const Quad<T>* channels, T* image) {
    if constexpr (C == 3) {
        const auto r = channels[0].v, g = channels[1].v, b = channels[2].v;
        Quad<T>{__builtin_shufflevector(__builtin_shufflevector(r, g, 0, 4, 1, 5), b, 0, 1, 4, 2)}.store(image);
        Quad<T>{__builtin_shufflevector(__builtin_shufflevector(g, b, 1, 5, 2, 6), r, 0, 1, 6, 2)}.store(image + 4);
        Quad<T>{__builtin_shufflevector(__builtin_shufflevector(b, r, 2, 7, 3, 3), g, 0, 1, 7, 2)}.store(image + 8);
    } else {
        for (int x = 0; x < 4; ++x)
            for (int c = 0; c < C; ++c) image[x * C + c] = channels[c].v[x];
    }
}
template <typename T, int C>
AVATAR3D_INLINE void deinterleave(const T* image, Quad<T>* channels) {
    if constexpr (C == 3) {
        const auto x = Quad<T>::load(image).v, y = Quad<T>::load(image + 4).v, z = Quad<T>::load(image + 8).v;
        channels[0].v = __builtin_shufflevector(__builtin_shufflevector(x, y, 0, 3, 6, 6), z, 0, 1, 2, 5);
        channels[1].v = __builtin_shufflevector(__builtin_shufflevector(x, y, 1, 4, 7, 7), z, 0, 1, 2, 6);
        channels[2].v = __builtin_shufflevector(__builtin_shufflevector(x, y, 2, 5, 5, 5), z, 0, 1, 4, 7);
    } else {
        for (int c = 0; c < C; ++c)
            channels[c].v = typename Quad<T>::V{image[c], image[C + c], image[2 * C + c], image[3 * C + c]};
    }
}

// fn(block, lane, pixel, n) for every row of four pixels, of which the first n lie in the image.
template <typename T, typename F>
AVATAR3D_INLINE void each_quad(const BlendArgs<T>& a, const Tile& t, F&& fn) {
    for (int y = 0; y < t.height; ++y) {
        const int64_t pixel = (t.image * a.height + t.y + y) * a.width + t.x;
        for (int x = 0; x < t.width; x += 4) fn(block_of(x, y), lane_of(x, y), pixel + x, std::min(4, t.width - x));
    }
}

// Fetches the tile's rows of an image and of its alpha, and the like share of what is kept for the gradients, a few at a
// time while splats are worked on.
template <typename T>
class RowPrefetch {
   public:
    RowPrefetch(const BlendArgs<T>& a, const Tile& t, const T* image, const T* alpha, const T* kept, const int32_t* places,
                int64_t steps)
        : image_(image), alpha_(alpha), kept_(kept + t.index * kTilePixels), places_(places + t.index * kTilePixels), channels_(a.c), width_(t.width), row_(a.width), rows_(t.height),
          pixel_((t.image * a.height + t.y) * a.width + t.x), pace_(steps > 0 ? (int64_t(t.height) << 16) / steps + 1 : 0) {}
    AVATAR3D_INLINE void step() {
        for (due_ += pace_; done_ < (due_ >> 16) && done_ < rows_; ++done_, pixel_ += row_) {
            lines(image_ + pixel_ * channels_, width_ * channels_);
            lines(alpha_ + pixel_, width_);
            lines(kept_ + done_ * kSplatTile, kSplatTile);
            lines(places_ + done_ * kSplatTile, kSplatTile);
        }
    }

   private:
    template <typename U>
    static AVATAR3D_INLINE void lines(const U* p, int64_t count) {
        for (int64_t k = 0; k < count; k += 64 / int64_t(sizeof(U))) __builtin_prefetch(p + k, 1);
    }
    const T *image_, *alpha_, *kept_;
    const int32_t* places_;
    int64_t channels_, width_, row_, rows_, pixel_, pace_, due_ = 0, done_ = 0;
};

// Alphas of all items, to m.alpha; with KeepPlace also where in the splat the pixels lie, to m.u and m.v.
template <typename T, bool KeepPlace>
AVATAR3D_INLINE void evaluate_items(TileMemory<T>& m, int count) {
    using V = Pack<T>;
    for (int i = 0; i < count; ++i) {
        const Item item = m.items[i];
        const TileSplat<T>& s = m.splats[item.splat];
        V u, v;
        const V exponent = splat_exponent(V(s.p), V(s.q), V(s.r), V(s.level), V(s.u0), V(s.v0), V::load(kCentres<T>.x[item.block & 7]),
                                          V::load(kCentres<T>.y[item.block >> 3]), u, v);
        if constexpr (KeepPlace) {
            u.store(m.u[i]);
            v.store(m.v[i]);
        }
        splat_alpha(exponent).store(m.alpha[i]);
    }
}

}  // namespace
}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
