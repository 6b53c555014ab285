// Tiles of 32 x 32 pixels, in which a splat visits only the blocks of 4 x 4 pixels (one vector) that it reaches.
#include "blend_splats/blend_splats.h"

#include "blend_splats/tile.h"
#include "common/channels.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

template <typename T>
const T* attributes_of(const BlendArgs<T>& a, int64_t splat) {
    return a.attributes + (a.attribute_images == 1 ? splat % a.n : splat) * a.c;
}

template <typename T>
const T* background_of(const BlendArgs<T>& a, int64_t image) {
    return a.background ? a.background + (a.background_images == 1 ? 0 : image) * a.c : nullptr;
}

// C is the number of channels, or 0 for any.
template <typename T, int C>
void draw_tile(const BlendArgs<T>& a, const BlendScratch& s, const BlendImages<T>& out, int64_t index, TileMemory<T>& m) {
    using V = Pack<T>;
    const Tile tile(a, s, index);
    const int64_t channels = C ? C : a.c;
    T* color = m.channel_memory(channels);
    std::fill(color, color + channels * kTilePixels, T(0));
    std::fill(m.last, m.last + kTilePixels, T(0));
    std::fill(m.transmittance, m.transmittance + kTilePixels, T(-1));  // beyond the image a pixel has ended
    each_pixel(a, tile, [&](int at, int64_t) { m.transmittance[at] = T(1); });

    SplatIntersection* list = s.intersections + tile.first;
    const auto* records = static_cast<const SplatRecord<T>*>(s.splats);
    m.sort(list, tile.count);
    uint64_t open = tile.blocks();
    for (int64_t k = 0; k < tile.count; ++k) {
        if (k + 8 < tile.count) __builtin_prefetch(records + list[k + 8].splat);
        if (k % 32 == 31) {
            for (uint64_t rest = open; rest; rest &= rest - 1) {
                const int block = __builtin_ctzll(rest);
                if (!bits(V::load(m.transmittance + block * kPack) > V(0.0))) open &= ~(uint64_t(1) << block);
            }
            if (!open) break;
        }
        const SplatRecord<T>& record = records[list[k].splat];
        const uint64_t blocks = splat_cells(record, T(tile.x), T(tile.y), kSplatBlock) & open;
        list[k].blocks = blocks;
        if (!blocks) continue;
        const TileSplat<T> splat(record.shape, tile);
        const V place(T(k + 1));
        V values[C ? C : 1];
        const T* attributes = C ? record.attributes : attributes_of(a, list[k].splat);
        for (int c = 0; c < C; ++c) values[c] = V(attributes[c]);
        each_bit(blocks, [&](int block) {
            V u, v, weight;
            const V exponent = splat.exponent(block, u, v);
            T* const at = m.transmittance + block * kPack;
            V transmittance = V::load(at);
            const auto blended = blend_step(exponent, transmittance, weight);
            transmittance.store(at);
            T* const last = m.last + block * kPack;
            select(blended, place, V::load(last)).store(last);
            T* to = color + block * kPack;
            if constexpr (C > 0) {
                for (int c = 0; c < C; ++c, to += kTilePixels) multiply_add(weight, values[c], V::load(to)).store(to);
            } else {
                for (int64_t c = 0; c < channels; ++c, to += kTilePixels)
                    multiply_add(weight, V(attributes[c]), V::load(to)).store(to);
            }
        });
    }

    const T* background = background_of(a, tile.image);
    each_pixel(a, tile, [&](int at, int64_t pixel) {
        const T transmittance = std::abs(m.transmittance[at]);
        T* image = out.image + pixel * channels;
        for (int64_t c = 0; c < channels; ++c)
            image[c] = color[c * kTilePixels + at] + (background ? transmittance * background[c] : T(0));
        out.alpha[pixel] = T(1) - transmittance;
        out.transmittance[pixel] = transmittance;
        out.last[pixel] = int32_t(m.last[at]);
    });
}

// Gradients of every intersection of a tile to its slot; those of the background to `background` [c].
template <typename T, int C, bool Absolute>
void undo_tile(const BlendArgs<T>& a, const BlendScratch& s, const BlendGrads<T>& g, int64_t index, TileMemory<T>& m,
               T* gradients, T* background_sums) {
    using V = Pack<T>;
    const Tile tile(a, s, index);
    const int64_t channels = C ? C : a.c, stride = blend_splats_stride(channels);
    const T* background = background_of(a, tile.image);
    T* grad = m.channel_memory(channels);
    if (tile.blocks() != ~uint64_t(0)) {
        std::fill(grad, grad + channels * kTilePixels, T(0));
        std::fill(m.last, m.last + kTilePixels, T(0));
        std::fill(m.transmittance, m.transmittance + kTilePixels, T(1));
        std::fill(m.behind, m.behind + kTilePixels, T(0));
    }
    int32_t end = 0;
    each_pixel(a, tile, [&](int at, int64_t pixel) {
        const T transmittance = g.transmittance[pixel];
        m.transmittance[at] = transmittance;
        m.last[at] = T(g.last[pixel]);
        end = std::max(end, g.last[pixel]);
        T behind = -g.grad_alpha[pixel];
        for (int64_t c = 0; c < channels; ++c) {
            const T value = g.grad_image[pixel * channels + c];
            grad[c * kTilePixels + at] = value;
            if (background) behind += background[c] * value;
            if (background_sums) background_sums[c] += transmittance * value;
        }
        m.behind[at] = behind;
    });

    const SplatIntersection* list = s.intersections + tile.first;
    const auto* records = static_cast<const SplatRecord<T>*>(s.splats);
    for (int64_t k = end; k < tile.count; ++k) std::fill_n(gradients + list[k].slot * stride, stride, T(0));
    constexpr int kSums = 8 + (C ? C : 0);
    m.sums.resize(C ? 0 : channels * kPack);
    for (int64_t k = end - 1; k >= 0; --k) {
        if (k >= 8) __builtin_prefetch(records + list[k - 8].splat);
        T* to = gradients + list[k].slot * stride;
        if (!list[k].blocks) {
            std::fill_n(to, stride, T(0));
            continue;
        }
        const SplatRecord<T>& record = records[list[k].splat];
        const TileSplat<T> splat(record.shape, tile);
        const V place(T(k + 1)), minimum(kSplatMinExponent);
        V values[C ? C : 1], sums[kSums];
        const T* attributes = C ? record.attributes : attributes_of(a, list[k].splat);
        for (int c = 0; c < C; ++c) values[c] = V(attributes[c]);
        for (V& x : sums) x = V(0.0);
        if (!C) std::fill(m.sums.begin(), m.sums.end(), T(0));
        each_bit(list[k].blocks, [&](int block) {
            V u, v, weight, slope, seen(0.0);
            const V exponent = splat.exponent(block, u, v);
            const auto blended = (exponent >= minimum) & (V::load(m.last + block * kPack) >= place);
            const T* from = grad + block * kPack;
            if constexpr (C > 0) {
                for (int c = 0; c < C; ++c) seen = multiply_add(values[c], V::load(from + c * kTilePixels), seen);
            } else {
                for (int64_t c = 0; c < channels; ++c)
                    seen = multiply_add(V(attributes[c]), V::load(from + c * kTilePixels), seen);
            }
            V transmittance = V::load(m.transmittance + block * kPack), behind = V::load(m.behind + block * kPack);
            blend_step_back(exponent, blended, seen, transmittance, behind, weight, slope);
            transmittance.store(m.transmittance + block * kPack);
            behind.store(m.behind + block * kPack);
            const V su = slope * u, sv = slope * v;
            sums[0] = sums[0] + slope;
            sums[1] = sums[1] + su;
            sums[2] = sums[2] + sv;
            sums[3] = multiply_add(su, u, sums[3]);
            sums[4] = multiply_add(su, v, sums[4]);
            sums[5] = multiply_add(sv, v, sums[5]);
            if constexpr (Absolute) {
                sums[6] = sums[6] - negative(su);
                sums[7] = sums[7] - negative(multiply_add(splat.q, su, splat.r * sv));
            }
            if constexpr (C > 0) {
                for (int c = 0; c < C; ++c) sums[8 + c] = multiply_add(weight, V::load(from + c * kTilePixels), sums[8 + c]);
            } else {
                for (int64_t c = 0; c < channels; ++c) {
                    T* sum = m.sums.data() + c * kPack;
                    multiply_add(weight, V::load(from + c * kTilePixels), V::load(sum)).store(sum);
                }
            }
        });
        sums_of(sums, kSums, to);
        for (int64_t c = 0; !C && c < channels; ++c) to[8 + c] = sum(V::load(m.sums.data() + c * kPack));
    }
}

// Adds up the intersections of one splat.
template <typename T>
void gather(const BlendArgs<T>& a, const BlendGrads<T>& g, const SplatRecord<T>& record, int64_t i, const T* gradients, T* attributes) {
    if (record.count == 0) {
        std::fill_n(g.pixels + i * 2, 2, T(0));
        std::fill_n(g.conics + i * 3, 3, T(0));
        g.opacities[i] = T(0);
        if (g.absolute) std::fill_n(g.absolute + i * 2, 2, T(0));
        return;
    }
    const int64_t stride = blend_splats_stride(a.c);
    const T* from = gradients + record.slot * stride;
    T sums[8] = {};
    for (int32_t k = 0; k < record.count; ++k, from += stride) {
        for (int j = 0; j < 8; ++j) sums[j] += from[j];
        for (int64_t c = 0; c < a.c; ++c) attributes[c] += from[8 + c];
    }
    const SplatMoments<T> moments{sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7]};
    const auto gradient = splat_gradient(record.shape.p, record.shape.q, record.shape.r, a.opacities[i], moments);
    g.pixels[i * 2] = gradient.x;
    g.pixels[i * 2 + 1] = gradient.y;
    g.conics[i * 3] = gradient.a;
    g.conics[i * 3 + 1] = gradient.b;
    g.conics[i * 3 + 2] = gradient.c;
    g.opacities[i] = gradient.opacity;
    if (g.absolute) {
        g.absolute[i * 2] = gradient.absolute_x;
        g.absolute[i * 2 + 1] = gradient.absolute_y;
    }
}

template <typename T, int C>
void draw_tiles(const BlendArgs<T>& a, const BlendScratch& s, const BlendImages<T>& out, int threads) {
    parallel_each(a.b * tile_columns(a.width) * tile_columns(a.height), threads, [&](int64_t tile, int) {
        static thread_local std::unique_ptr<TileMemory<T>> memory(new TileMemory<T>);
        draw_tile<T, C>(a, s, out, tile, *memory);
    });
}

template <typename T, int C>
void undo_tiles(const BlendArgs<T>& a, const BlendScratch& s, const BlendGrads<T>& g, T* gradients, int threads) {
    const int64_t tiles = int64_t(tile_columns(a.width)) * tile_columns(a.height);
    std::vector<T> background(g.background ? a.b * tiles * a.c : 0, T(0));
    parallel_each(a.b * tiles, threads, [&](int64_t tile, int) {
        static thread_local std::unique_ptr<TileMemory<T>> memory(new TileMemory<T>);
        T* sums = g.background ? background.data() + tile * a.c : nullptr;
        if (g.absolute) {
            undo_tile<T, C, true>(a, s, g, tile, *memory, gradients, sums);
        } else {
            undo_tile<T, C, false>(a, s, g, tile, *memory, gradients, sums);
        }
    });
    if (!g.background) return;
    std::fill(g.background, g.background + a.background_images * a.c, T(0));
    for (int64_t tile = 0; tile < a.b * tiles; ++tile)
        for (int64_t c = 0; c < a.c; ++c)
            g.background[(a.background_images == 1 ? 0 : tile / tiles) * a.c + c] += background[tile * a.c + c];
}

}  // namespace

template <typename T>
void blend_splats_count(const BlendArgs<T>& a, const BlendScratch& s, int64_t* total, int threads) {
    const int columns = tile_columns(a.width);
    const int64_t tiles = int64_t(columns) * tile_columns(a.height);
    auto* records = static_cast<SplatRecord<T>*>(s.splats);
    std::vector<int64_t> totals(a.b * kSplatChunks, 0);
    parallel_for(a.b * kSplatChunks, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t c = begin; c < end; ++c) {
            const int64_t image = c / kSplatChunks;
            const auto range = chunk_of(a.n, c % kSplatChunks);
            int32_t* counts = s.counts + c * tiles;
            std::fill(counts, counts + tiles, 0);
            set_up(a, image, range.first, range.second, records, s.boxes);
            for (int64_t i = image * a.n + range.first; i < image * a.n + range.second; ++i) {
                if (s.boxes[i].columns == 0) continue;
                int32_t count = 0;
                each_tile(records[i], s.boxes[i], columns, [&](int tile) {
                    ++counts[tile];
                    ++count;
                });
                records[i].count = count;
                totals[c] += count;
            }
        }
    });
    *total = 0;
    for (const int64_t t : totals) *total += t;
}

template <typename T>
void blend_splats_forward(const BlendArgs<T>& a, const BlendScratch& s, const BlendImages<T>& out, int threads) {
    fill(a, s, threads);
    with_channels(a.c, [&](auto c) { draw_tiles<T, decltype(c)::value>(a, s, out, threads); });
}

template <typename T>
void blend_splats_backward(const BlendArgs<T>& a, const BlendScratch& s, const BlendGrads<T>& g, T* gradients, int threads) {
    with_channels(a.c, [&](auto c) { undo_tiles<T, decltype(c)::value>(a, s, g, gradients, threads); });
    const auto* records = static_cast<const SplatRecord<T>*>(s.splats);
    parallel_for(a.n, 256, threads, [&](int64_t begin, int64_t end, int) {
        std::fill(g.attributes + begin * a.c, g.attributes + end * a.c, T(0));
        for (int64_t image = 0; image < a.b; ++image) {
            const bool own = a.attribute_images > 1 && image > 0;
            if (own) std::fill(g.attributes + (image * a.n + begin) * a.c, g.attributes + (image * a.n + end) * a.c, T(0));
            for (int64_t i = begin; i < end; ++i) {
                const int64_t splat = image * a.n + i;
                gather(a, g, records[splat], splat, gradients, g.attributes + (own ? splat : i) * a.c);
            }
        }
    });
}

template void blend_splats_count<float>(const BlendArgs<float>&, const BlendScratch&, int64_t*, int);
template void blend_splats_count<double>(const BlendArgs<double>&, const BlendScratch&, int64_t*, int);
template void blend_splats_forward<float>(const BlendArgs<float>&, const BlendScratch&, const BlendImages<float>&, int);
template void blend_splats_forward<double>(const BlendArgs<double>&, const BlendScratch&, const BlendImages<double>&, int);
template void blend_splats_backward<float>(const BlendArgs<float>&, const BlendScratch&, const BlendGrads<float>&, float*, int);
template void blend_splats_backward<double>(const BlendArgs<double>&, const BlendScratch&, const BlendGrads<double>&, double*, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
