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
    // Of every block: transmittance, place of the last splat, channels. Beyond the image a pixel has ended.
    const int64_t stride = (2 + channels) * kPack;
    T* const memory = m.blocks(2 + channels);
    std::fill(memory, memory + kTileBlocks * stride, T(0));
    for (int block = 0; block < kTileBlocks; ++block) V(tile.whole() ? 1.0 : -1.0).store(memory + block * stride);
    if (!tile.whole()) each_pixel(a, tile, [&](int block, int lane, int64_t) { memory[block * stride + lane] = T(1); });

    SplatIntersection* list = s.intersections + tile.first;
    const auto* records = static_cast<const SplatRecord<T>*>(s.splats);
    m.sort(list, tile.count);
    uint64_t open = tile.blocks();
    RowPrefetch<T> prefetch(a, tile, out.image, out.alpha, out.transmittance, out.last, tile.count);
    for (int64_t first = 0; first < tile.count && open; first += kChunkSplats) {
        const int splats = int(std::min<int64_t>(kChunkSplats, tile.count - first));
        for (int k = 0; k < splats; ++k) {
            if (first + k + kAhead < tile.count) __builtin_prefetch(records + list[first + k + kAhead].splat);
            prefetch.step();
            const SplatRecord<T>& record = records[list[first + k].splat];
            list[first + k].blocks = splat_cells(record, T(tile.x), T(tile.y), kSplatBlock) & open;
            m.splats[k] = tile_splat(record, tile, first + k + 1);
        }
        for (int next = 0; next < splats;) {
            int items = 0;
            for (; next < splats && items < kChunkItems; ++next) items = m.add_items(items, next, list[first + next].blocks);
            evaluate_items<T, false>(m, items);
            for (int i = 0; i < items; ++i) {
                const Item item = m.items[i];
                T* at = memory + item.block * stride;
                V weight, transmittance = V::load(at);
                const auto open_here = blend_alpha(V::load(m.alpha[i]), transmittance, weight);
                transmittance.store(at);
                at += kPack;
                select(open_here, V(m.splats[item.splat].place), V::load(at)).store(at);
                at += kPack;
                const T* values = C ? m.splats[item.splat].attributes : attributes_of(a, list[first + item.splat].splat);
                for (int64_t c = 0; c < channels; ++c, at += kPack) multiply_add(weight, V(values[c]), V::load(at)).store(at);
            }
        }
        for (uint64_t rest = open; rest; rest &= rest - 1) {
            const int block = __builtin_ctzll(rest);
            if (!any(V::load(memory + block * stride) > V(0.0))) open &= ~(uint64_t(1) << block);
        }
    }

    const T* background = background_of(a, tile.image);
    each_quad(a, tile, [&](int block, int lane, int64_t pixel, int n) {
        const T* from = memory + block * stride + lane;
        if (C > 0 && n == 4) {
            constexpr int kChannels = C ? C : 1;
            Quad<T> left = Quad<T>::load(from), channel[kChannels];
            left.v = left.v > 0 ? left.v : -left.v;
            Quad<T>{1 - left.v}.store(out.alpha + pixel);
            for (int c = 0; c < C; ++c) channel[c].v = Quad<T>::load(from + (2 + c) * kPack).v + left.v * background[c];
            interleave<T, kChannels>(channel, out.image + pixel * C);
            return;
        }
        for (int x = 0; x < n; ++x, ++from, ++pixel) {
            const T left = std::abs(from[0]);
            for (int64_t c = 0; c < channels; ++c) out.image[pixel * channels + c] = from[(2 + c) * kPack] + left * background[c];
            out.alpha[pixel] = T(1) - left;
        }
    });
    if (!out.transmittance) return;
    for (int block = 0; block < kTileBlocks; ++block) {
        const T* from = memory + block * stride;
        const int64_t to = (index * kTileBlocks + block) * kPack;
        (-negative(V::load(from))).store(out.transmittance + to);
        for (int l = 0; l < kPack; ++l) out.last[to + l] = int32_t(from[kPack + l]);
    }
}

// Gradients of every intersection of a tile to its slot; those of the background to `background_sums` [c].
template <typename T, int C, bool Absolute>
void undo_tile(const BlendArgs<T>& a, const BlendScratch& s, const BlendGrads<T>& g, int64_t index, TileMemory<T>& m,
               T* gradients, T* background_sums) {
    using V = Pack<T>;
    const Tile tile(a, s, index);
    const int64_t channels = C ? C : a.c, record_size = blend_splats_stride(channels);
    const T* background = background_of(a, tile.image);
    // Of every block: transmittance, what lies behind, place of the last splat, gradients of the channels.
    const int64_t stride = (3 + channels) * kPack;
    T* const memory = m.blocks(3 + channels);
    if (!tile.whole()) std::fill(memory, memory + kTileBlocks * stride, T(0));
    int32_t end = 0;
    for (int block = 0; block < kTileBlocks; ++block) {
        T* to = memory + block * stride;
        const int64_t from = (index * kTileBlocks + block) * kPack;
        V::load(g.transmittance + from).store(to);
        for (int l = 0; l < kPack; ++l) {
            to[2 * kPack + l] = T(g.last[from + l]);
            end = std::max(end, g.last[from + l]);
        }
    }
    each_quad(a, tile, [&](int block, int lane, int64_t pixel, int n) {
        T* to = memory + block * stride + lane;
        if (C > 0 && n == 4 && !background_sums) {
            constexpr int kChannels = C ? C : 1;
            Quad<T> behind = g.grad_alpha ? Quad<T>::load(g.grad_alpha + pixel) : Quad<T>{}, channel[kChannels];
            deinterleave<T, kChannels>(g.grad_image + pixel * C, channel);
            behind.v = -behind.v;
            for (int c = 0; c < C; ++c) {
                behind.v += channel[c].v * background[c];
                channel[c].store(to + (3 + c) * kPack);
            }
            behind.store(to + kPack);
            return;
        }
        for (int x = 0; x < n; ++x, ++to, ++pixel) {
            T behind = g.grad_alpha ? -g.grad_alpha[pixel] : T(0);
            for (int64_t c = 0; c < channels; ++c) {
                const T value = g.grad_image[pixel * channels + c];
                to[(3 + c) * kPack] = value;
                behind += background[c] * value;
                if (background_sums) background_sums[c] += to[0] * value;
            }
            to[kPack] = behind;
        }
    });

    const SplatIntersection* list = s.intersections + tile.first;
    const auto* records = static_cast<const SplatRecord<T>*>(s.splats);
    for (int64_t k = end; k < tile.count; ++k) std::fill_n(gradients + list[k].slot * record_size, record_size, T(0));
    constexpr int kSums = 8 + C;
    m.sums.resize(C ? 0 : channels * kPack);
    alignas(64) T totals[kPack] = {};
    for (int64_t first = end, next = end; first > 0; first = next) {  // splats next .. first, last one first
        int items = 0, splats = 0;
        for (; next > 0 && splats < kChunkSplats && items < kChunkItems; ++splats) {
            if (--next >= kAhead) __builtin_prefetch(records + list[next - kAhead].splat);
            __builtin_prefetch(gradients + list[next].slot * record_size, 1);
            __builtin_prefetch(gradients + (list[next].slot + 1) * record_size - 1, 1);
            m.splats[splats] = tile_splat(records[list[next].splat], tile, next + 1);
            items = m.add_items(items, splats, list[next].blocks);
        }
        evaluate_items<T, true>(m, items);
        int i = 0;
        for (int k = 0; k < splats; ++k) {
            const int64_t at_list = first - 1 - k;
            const TileSplat<T>& splat = m.splats[k];
            const V place(splat.place);
            V values[C ? C : 1], sums[kSums];
            const T* attributes = C ? splat.attributes : attributes_of(a, list[at_list].splat);
            for (int c = 0; c < C; ++c) values[c] = V(attributes[c]);
            for (V& x : sums) x = V(0.0);
            if (!C) std::fill(m.sums.begin(), m.sums.end(), T(0));
            for (const int stop = i + __builtin_popcountll(list[at_list].blocks); i < stop; ++i) {
                T* const at = memory + m.items[i].block * stride;
                const T* from = at + 3 * kPack;
                V weight, slope, seen(0.0), transmittance = V::load(at), behind = V::load(at + kPack);
                for (int64_t c = 0; c < channels; ++c)
                    seen = multiply_add(C ? values[c] : V(attributes[c]), V::load(from + c * kPack), seen);
                const V alpha = select(V::load(at + 2 * kPack) >= place, V::load(m.alpha[i]), V(0.0));
                blend_alpha_back(alpha, seen, transmittance, behind, weight, slope);
                transmittance.store(at);
                behind.store(at + kPack);
                const V u = V::load(m.u[i]), v = V::load(m.v[i]), su = slope * u, sv = slope * v;
                sums[0] = sums[0] + slope;
                sums[1] = sums[1] + su;
                sums[2] = sums[2] + sv;
                sums[3] = multiply_add(su, u, sums[3]);
                sums[4] = multiply_add(su, v, sums[4]);
                sums[5] = multiply_add(sv, v, sums[5]);
                if constexpr (Absolute) {
                    sums[6] = sums[6] - negative(su);
                    sums[7] = sums[7] - negative(multiply_add(V(splat.q), su, V(splat.r) * sv));
                }
                if constexpr (C > 0) {
                    for (int c = 0; c < C; ++c) sums[8 + c] = multiply_add(weight, V::load(from + c * kPack), sums[8 + c]);
                } else {
                    for (int64_t c = 0; c < channels; ++c) {
                        T* sum = m.sums.data() + c * kPack;
                        multiply_add(weight, V::load(from + c * kPack), V::load(sum)).store(sum);
                    }
                }
            }
            T* to = gradients + list[at_list].slot * record_size;
            sums_of(sums, kSums, totals);
            std::copy(totals, totals + (C ? 8 + (C + 3) / 4 * 4 : 8), to);
            for (int64_t c = 0; !C && c < channels; ++c) to[8 + c] = sum(V::load(m.sums.data() + c * kPack));
        }
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
