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

// A pixel's place in the tile's memory.
inline constexpr int place(int x, int y) {
    return ((y / kSplatBlock) * 8 + x / kSplatBlock) * kPack + (y % kSplatBlock) * kSplatBlock + x % kSplatBlock;
}

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
    uint64_t blocks() const { return cells_of((width + kSplatBlock - 1) / kSplatBlock, (height + kSplatBlock - 1) / kSplatBlock); }
};

// Memory of one thread, kept from call to call.
template <typename T>
struct TileMemory {
    alignas(64) T transmittance[kTilePixels], last[kTilePixels], behind[kTilePixels];
    std::vector<T> channels, sums;  // [c][kTilePixels]; [8 + c][kPack]
    DepthSort sort;

    // Aligned to 64 bytes.
    T* channel_memory(int64_t c) {
        channels.resize(c * kTilePixels + kPack);
        return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(channels.data()) + 63) & ~uintptr_t(63));
    }
};

// fn(place, pixel) for all pixels of the tile that lie in the image; pixel counts through the whole batch.
template <typename T, typename F>
AVATAR3D_INLINE void each_pixel(const BlendArgs<T>& a, const Tile& t, F&& fn) {
    for (int y = 0; y < t.height; ++y) {
        const int64_t row = (t.image * a.height + t.y + y) * a.width + t.x;
        for (int x = 0; x < t.width; ++x) fn(place(x, y), row + x);
    }
}

// A splat as all pixels of a tile see it.
template <typename T>
struct TileSplat {
    using V = Pack<T>;
    V p, q, r, level, u0, v0;

    AVATAR3D_INLINE TileSplat(const SplatShape<T>& s, const Tile& t) {
        const T dx = T(t.x) - s.x, dy = T(t.y) - s.y;
        p = V(s.p);
        q = V(s.q);
        r = V(s.r);
        level = V(s.level);
        u0 = V(avatar3d::multiply_add(s.p, dx, s.q * dy));
        v0 = V(s.r * dy);
    }
    AVATAR3D_INLINE V exponent(int block, V& u, V& v) const {
        return splat_exponent(p, q, r, level, u0, v0, V::load(kCentres<T>.x[block & 7]), V::load(kCentres<T>.y[block >> 3]), u, v);
    }
};

// The sums of the lanes of n <= 16 packs, one after the other.
template <typename T>
AVATAR3D_INLINE void sums_of(const Pack<T>* packs, int n, T* out) {
    for (int i = 0; i < n; ++i) out[i] = sum(packs[i]);
}

}  // namespace
}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
