// Which triangles reach which tiles. Included by rasterize_cpu.cpp alone, once for each instruction set.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "common/parallel.h"
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
    std::unique_ptr<Box16[]> boxes;  // [b * f]
    int32_t columns = 0, rows = 0;
};

// Where the vertices of one image fall, in pixels; NaN where triangle_box has to look closer.
template <typename T>
void project(const RasterArgs<T>& a, const T* points, int64_t begin, int64_t end, float* x, float* y) {
    const T limit = T(kRasterLimit);
    for (int64_t i = begin; i < end; ++i) {
        const T px = points[i * 3], py = points[i * 3 + 1], z = points[i * 3 + 2];
        const bool plain = (z >= a.near) & (z < limit) & (std::abs(px) < limit) & (std::abs(py) < limit);
        const float inverse = plain ? float(T(1) / z) : std::numeric_limits<float>::quiet_NaN();
        x[i] = float(px) * inverse;
        y[i] = float(py) * inverse;
    }
}

// triangle_box for triangles that lie in front of the near plane as a whole; the others have x0 = -1.
inline void boxes_in_front(const int32_t* faces, const float* x, const float* y, int64_t n, float width, float height,
                           Box16* boxes) {
    constexpr float slack = 0.51f;  // half a pixel, and what float loses within 32767 pixels
    for (int64_t t = 0; t < n; ++t) {
        const int32_t i = faces[t * 3], j = faces[t * 3 + 1], k = faces[t * 3 + 2];
        const float xi = x[i], xj = x[j], xk = x[k], yi = y[i], yj = y[j], yk = y[k];
        const float x_lo = std::min(std::min(xi, xj), xk) - slack, x_hi = std::max(std::max(xi, xj), xk) - 1 + slack;
        const float y_lo = std::min(std::min(yi, yj), yk) - slack, y_hi = std::max(std::max(yi, yj), yk) - 1 + slack;
        const float sum = (xi + xj + xk) + (yi + yj + yk);
        const float cx0 = std::min(std::max(x_lo, 0.0f), width), cx1 = std::max(std::min(x_hi, width - 1), -1.0f);
        const float cy0 = std::min(std::max(y_lo, 0.0f), height), cy1 = std::max(std::min(y_hi, height - 1), -1.0f);
        const int32_t x0 = int32_t(cx0) + (float(int32_t(cx0)) < cx0), y0 = int32_t(cy0) + (float(int32_t(cy0)) < cy0);
        const int32_t x1 = int32_t(cx1 + 1) - 1, y1 = int32_t(cy1 + 1) - 1;
        const bool look_closer = !(sum - sum == 0), empty = y1 < y0;
        boxes[t] = {int16_t(look_closer ? -1 : x0), int16_t(y0), int16_t(look_closer ? 0 : empty ? x0 - 1 : x1), int16_t(y1)};
    }
}

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
    std::vector<int32_t> counts(chunks * per_image, 0);
    std::unique_ptr<float[]> x(new float[a.b * a.v]), y(new float[a.b * a.v]);
    parallel_for(a.b * a.v, 4096, threads,
                 [&](int64_t begin, int64_t end, int) { project(a, a.points, begin, end, x.get(), y.get()); });

    const auto triangles_of = [&](int64_t c) {
        const int64_t first = (c % chunks_per_image) * chunk;
        return std::pair<int64_t, int64_t>(std::min(first, a.f), std::min(first + chunk, a.f));
    };
    const auto each_tile = [&](const Box16& box, auto&& visit) {
        const int32_t tx0 = box.x0 / kRasterTile, tx1 = box.x1 / kRasterTile;
        const int32_t ty0 = box.y0 / kRasterTile, ty1 = box.y1 / kRasterTile;
        for (int32_t ty = ty0; ty <= ty1; ++ty)
            for (int32_t tx = tx0; tx <= tx1; ++tx) visit(ty * bins.columns + tx);
    };

    parallel_for(chunks, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t c = begin; c < end; ++c) {
            const int64_t image = c / chunks_per_image;
            const T* points = a.points + image * a.v * 3;
            Box16* boxes = bins.boxes.get() + image * a.f;
            int32_t* count = counts.data() + c * per_image;
            const auto range = triangles_of(c);
            boxes_in_front(a.faces + range.first * 3, x.get() + image * a.v, y.get() + image * a.v,
                           range.second - range.first, float(a.width), float(a.height), boxes + range.first);
            for (int64_t t = range.first; t < range.second; ++t) {
                if (boxes[t].x0 < 0) {
                    bool crossing;
                    const PixelBox box = triangle_box(points, a.faces + t * 3, a.near, a.height, a.width, &crossing);
                    boxes[t] = {int16_t(box.x0), int16_t(box.y0), int16_t(box.x1), int16_t(box.y1)};
                }
                if (boxes[t].x1 < boxes[t].x0) continue;
                each_tile(boxes[t], [&](int32_t tile) { ++count[tile]; });
            }
        }
    });

    bins.offsets.assign(tiles + 1, 0);
    std::vector<int64_t> next(chunks * per_image);
    int64_t total = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        bins.offsets[tile] = total;
        const int64_t image = tile / per_image;
        for (int64_t c = image * chunks_per_image; c < (image + 1) * chunks_per_image; ++c) {
            next[c * per_image + tile % per_image] = total;
            total += counts[c * per_image + tile % per_image];
        }
    }
    bins.offsets[tiles] = total;
    bins.entries.reset(new int32_t[std::max<int64_t>(total, 1)]);

    parallel_for(chunks, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t c = begin; c < end; ++c) {
            const Box16* boxes = bins.boxes.get() + c / chunks_per_image * a.f;
            int64_t* to = next.data() + c * per_image;
            const auto range = triangles_of(c);
            for (int64_t t = range.first; t < range.second; ++t) {
                if (boxes[t].x1 < boxes[t].x0) continue;
                each_tile(boxes[t], [&](int32_t tile) { bins.entries[to[tile]++] = int32_t(t); });
            }
        }
    });
    return bins;
}

}  // namespace
}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
