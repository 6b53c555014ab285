// How the blending runs on CUDA: records and depth keys of all splats, a stable sort by depth, intersections written in
// that order, a stable sort of these by tile. What a splat gets from a tile is written to its slot and gathered from
// there, so there are no atomics and the sums have a fixed order.
#pragma once
#include "blend_splats/blend_splats.h"

namespace avatar3d {
namespace cuda {

constexpr int kTile = 16;  // pixels; a block has one thread for each pixel

// What the forward pass keeps for the backward pass. Slots number the intersections in order of depth, those of one
// splat one after the other.
template <typename T>
struct BlendLists {
    SplatRecord<T>* splats;  // [b n]
    int32_t* splat_of;       // [total]: which splat a slot belongs to
    int32_t* slots;          // [total], sorted by tile, within a tile by depth
    int64_t* tiles;          // [b tiles + 1], where every tile's list begins
};

AVATAR3D_HD int64_t tiles_of(int32_t width, int32_t height) {
    return int64_t((width + kTile - 1) / kTile) * ((height + kTile - 1) / kTile);
}

// Bytes of scratch for blend_splats_count, which the forward pass reads again, and for the forward pass.
int64_t blend_splats_count_bytes(int64_t splats, bool wide);
int64_t blend_splats_sort_bytes(int64_t total, int64_t tiles);

// Fills splats; returns the number of intersections (waits for the stream).
template <typename T>
int64_t blend_splats_count(const BlendArgs<T>& args, const BlendLists<T>& lists, void* count_scratch, uint64_t stream);

template <typename T>
void blend_splats_forward(const BlendArgs<T>& args, const BlendLists<T>& lists, void* count_scratch, void* sort_scratch,
                          int64_t total, const BlendImages<T>& images, uint64_t stream);

// gradients: [total, blend_splats_stride(c)]. That of the background, [b tiles, c], is left by tiles.
template <typename T>
void blend_splats_backward(const BlendArgs<T>& args, const BlendLists<T>& lists, const BlendGrads<T>& grads, T* gradients,
                           uint64_t stream);

// Of the forward pass: fills splat_of, slots and tiles.
template <typename T>
void blend_splats_lists(const BlendArgs<T>& args, const BlendLists<T>& lists, void* count_scratch, void* sort_scratch,
                        int64_t total, uint64_t stream);

}  // namespace cuda
}  // namespace avatar3d
