// Tiles of 64x64 pixels with a z-buffer of their own; barycentrics only for what is seen in the end.
#include <algorithm>
#include <memory>
#include <vector>

#include "common/parallel.h"
#include "common/scatter.h"
#include "rasterize/rasterize.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

struct Box16 {
    int16_t x0, y0, x1, y1;
};

// Triangles of every tile, in ascending order: entries[offsets[tile] .. offsets[tile + 1]).
struct Bins {
    std::vector<int64_t> offsets;
    std::unique_ptr<int32_t[]> entries;
    std::unique_ptr<Box16[]> boxes;   // [b * f]
    int32_t columns = 0, rows = 0;
};

// Pixel boxes of all triangles, and the bins. Counts per chunk of triangles make the order independent of threads.
template <typename T>
Bins bin(const RasterArgs<T>& a, int threads) {
    Bins bins;
    bins.columns = (a.width + kRasterTile - 1) / kRasterTile;
    bins.rows = (a.height + kRasterTile - 1) / kRasterTile;
    const int64_t per_image = int64_t(bins.columns) * bins.rows, tiles = per_image * a.b;
    const int64_t chunks_per_image = std::max<int64_t>(1, std::min<int64_t>(threads * 2, a.f / 1024));
    const int64_t chunk = (a.f + chunks_per_image - 1) / chunks_per_image, chunks = chunks_per_image * a.b;
    bins.boxes.reset(new Box16[a.b * a.f]);
    std::vector<int64_t> counts(chunks * per_image, 0);

    const auto triangles_of = [&](int64_t c) {
        const int64_t first = (c % chunks_per_image) * chunk;
        return std::pair<int64_t, int64_t>(std::min(first, a.f), std::min(first + chunk, a.f));
    };
    const auto each_tile = [&](const Box16& box, auto&& visit) {
        for (int32_t y = box.y0 / kRasterTile; y <= box.y1 / kRasterTile; ++y)
            for (int32_t x = box.x0 / kRasterTile; x <= box.x1 / kRasterTile; ++x) visit(int64_t(y) * bins.columns + x);
    };

    parallel_for(chunks, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t c = begin; c < end; ++c) {
            const int64_t image = c / chunks_per_image;
            const T* points = a.points + image * a.v * 3;
            Box16* boxes = bins.boxes.get() + image * a.f;
            int64_t* count = counts.data() + c * per_image;
            const auto range = triangles_of(c);
            for (int64_t t = range.first; t < range.second; ++t) {
                bool crossing;
                const PixelBox box = triangle_box(points, a.faces + t * 3, a.near, a.height, a.width, &crossing);
                boxes[t] = {int16_t(box.x0), int16_t(box.y0), int16_t(box.x1), int16_t(box.y1)};
                if (box.x1 < box.x0) continue;
                each_tile(boxes[t], [&](int64_t tile) { ++count[tile]; });
            }
        }
    });

    bins.offsets.assign(tiles + 1, 0);
    int64_t total = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        bins.offsets[tile] = total;
        const int64_t image = tile / per_image;
        for (int64_t c = image * chunks_per_image; c < (image + 1) * chunks_per_image; ++c) {
            int64_t& count = counts[c * per_image + tile % per_image];
            const int64_t n = count;
            count = total;  // becomes where this chunk writes
            total += n;
        }
    }
    bins.offsets[tiles] = total;
    bins.entries.reset(new int32_t[std::max<int64_t>(total, 1)]);

    parallel_for(chunks, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t c = begin; c < end; ++c) {
            const Box16* boxes = bins.boxes.get() + c / chunks_per_image * a.f;
            int64_t* next = counts.data() + c * per_image;
            const auto range = triangles_of(c);
            for (int64_t t = range.first; t < range.second; ++t) {
                if (boxes[t].x1 < boxes[t].x0) continue;
                each_tile(boxes[t], [&](int64_t tile) { bins.entries[next[tile]++] = int32_t(t); });
            }
        }
    });
    return bins;
}

// z-buffer of one tile. Rows are stored in interleaved pairs, so that one vector holds a block of two rows; a block
// may start at any column and hang over the right edge into the padding.
template <typename T>
struct TileBuffer {
    static constexpr int lanes = 64 / sizeof(T);
    static constexpr int columns = lanes / 2;
    static constexpr int stride = (kRasterTile + columns) * 2;
    using Index = typename std::conditional<sizeof(T) == 4, int32_t, int64_t>::type;

    alignas(64) T inverse[kRasterTile / 2 * stride];
    alignas(64) Index index[kRasterTile / 2 * stride];  // into `triangles`, -1 for none
    alignas(64) T lane_x[lanes], lane_y[lanes];
    std::vector<TileTriangle<T>> triangles;

    TileBuffer() {
        for (int l = 0; l < lanes; ++l) {
            lane_x[l] = T(l >> 1);
            lane_y[l] = T(l & 1);
        }
    }

    void clear() {
        std::fill(std::begin(inverse), std::end(inverse), T(0));
        std::fill(std::begin(index), std::end(index), Index(-1));
        triangles.clear();
    }

    // x0.. in pixels from the tile's corner; `limit` is the largest 1/depth that is drawn.
    void draw(const TileTriangle<T>& t, Index which, int x0, int y0, int x1, int y1, T limit) {
        for (int y = y0 & ~1; y <= y1; y += 2) {
            T* z_row = inverse + (y >> 1) * stride;
            Index* i_row = index + (y >> 1) * stride;
            for (int x = x0; x <= x1; x += columns) {
                T* z = z_row + x * 2;
                Index* id = i_row + x * 2;
                for (int l = 0; l < lanes; ++l) {
                    const T px = T(x) + lane_x[l], py = T(y) + lane_y[l];
                    const T e0 = t.a[0] * px + (t.b[0] * py + t.e[0]);
                    const T e1 = t.a[1] * px + (t.b[1] * py + t.e[1]);
                    const T e2 = t.a[2] * px + (t.b[2] * py + t.e[2]);
                    const T w = ((e0 + e1) + e2) * t.inv_det;
                    const bool take = (e0 >= t.threshold[0]) & (e1 >= t.threshold[1]) & (e2 >= t.threshold[2]) &
                                      (w > z[l]) & (w <= limit);
                    z[l] = take ? w : z[l];
                    id[l] = take ? which : id[l];
                }
            }
        }
    }
};

template <typename T>
void draw_tile(const RasterArgs<T>& a, const Bins& bins, int64_t tile, TileBuffer<T>& buffer) {
    const int64_t per_image = int64_t(bins.columns) * bins.rows, image = tile / per_image;
    const int32_t tile_y = int32_t(tile % per_image) / bins.columns * kRasterTile;
    const int32_t tile_x = int32_t(tile % per_image) % bins.columns * kRasterTile;
    const int32_t w = std::min(kRasterTile, a.width - tile_x), h = std::min(kRasterTile, a.height - tile_y);
    const T* points = a.points + image * a.v * 3;
    const T limit = T(1) / a.near;
    const int64_t first = bins.offsets[tile], last = bins.offsets[tile + 1];
    if (first < last) buffer.clear();
    for (int64_t e = first; e < last; ++e) {
        const int32_t id = bins.entries[e];
        TriangleEdges edges;
        if (!triangle_edges(points, a.faces + int64_t(id) * 3, edges) || (a.cull && edges.away)) continue;
        const TileTriangle<T> t = tile_triangle<T>(edges, id, tile_x, tile_y);
        const Box16 box = bins.boxes[image * a.f + id];
        buffer.draw(t, int32_t(buffer.triangles.size()), std::max(box.x0 - tile_x, 0), std::max(box.y0 - tile_y, 0),
                    std::min(box.x1 - tile_x, w - 1), std::min(box.y1 - tile_y, h - 1), limit);
        buffer.triangles.push_back(t);
    }
    const bool empty = buffer.triangles.empty() || first == last;
    for (int32_t y = 0; y < h; ++y) {
        const int64_t row = (image * a.height + tile_y + y) * a.width + tile_x;
        int32_t* triangle = a.triangle + row;
        T* barycentrics = a.barycentrics + row * 3;
        T* depth = a.depth + row;
        if (empty) {
            std::fill(triangle, triangle + w, -1);
            std::fill(barycentrics, barycentrics + 3 * w, T(0));
            std::fill(depth, depth + w, T(0));
            continue;
        }
        const auto* index = buffer.index + (y >> 1) * TileBuffer<T>::stride + (y & 1);
        for (int32_t x = 0; x < w; ++x) {
            const auto i = index[x * 2];
            if (i < 0) {
                triangle[x] = -1;
                barycentrics[x * 3] = barycentrics[x * 3 + 1] = barycentrics[x * 3 + 2] = depth[x] = T(0);
            } else {
                const TileTriangle<T>& t = buffer.triangles[i];
                triangle[x] = t.id;
                resolve_pixel(t, T(x), T(y), barycentrics + x * 3, depth + x);
            }
        }
    }
}

}  // namespace

template <typename T>
void rasterize_forward(const RasterArgs<T>& a, int threads) {
    const Bins bins = bin(a, threads);
    const int64_t tiles = int64_t(bins.columns) * bins.rows * a.b;
    parallel_for(tiles, 1, threads, [&](int64_t begin, int64_t end, int) {
        static thread_local std::unique_ptr<TileBuffer<T>> buffer(new TileBuffer<T>);
        for (int64_t tile = begin; tile < end; ++tile) draw_tile(a, bins, tile, *buffer);
    });
}

template <typename T>
void rasterize_backward(const RasterArgs<T>& a, const RasterGrads<T>& g, int threads) {
    scatter_bands(a.b, a.height, a.v * 3, threads, g.grad_points, [&](int64_t image, int64_t y0, int64_t y1, T* sums) {
        const T* points = a.points + image * a.v * 3;
        for (int64_t i = (image * a.height + y0) * a.width; i < (image * a.height + y1) * a.width; ++i) {
            if (g.triangle[i] < 0) continue;
            const int32_t* face = a.faces + int64_t(g.triangle[i]) * 3;
            const T* b = g.barycentrics + i * 3;
            const T* gb = g.grad_barycentrics + i * 3;
            if (gb[0] == T(0) && gb[1] == T(0) && gb[2] == T(0) && g.grad_depth[i] == T(0)) continue;
            T G[3];
            if (!pixel_gradient(points, face, b, g.depth[i], gb, g.grad_depth[i], G)) continue;
            for (int k = 0; k < 3; ++k)
                for (int c = 0; c < 3; ++c) sums[int64_t(face[k]) * 3 + c] += b[k] * G[c];
        }
    });
}

template void rasterize_forward<float>(const RasterArgs<float>&, int);
template void rasterize_forward<double>(const RasterArgs<double>&, int);
template void rasterize_backward<float>(const RasterArgs<float>&, const RasterGrads<float>&, int);
template void rasterize_backward<double>(const RasterArgs<double>&, const RasterGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
