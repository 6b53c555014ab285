// Tiles of 64x64 pixels with a z-buffer of their own; barycentrics only for what is seen in the end.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "common/parallel.h"
#include "common/scatter.h"
#include "rasterize/bins.h"
#include "rasterize/lanes.h"
#include "rasterize/rasterize.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

namespace {

// Edge functions of a batch of triangles, computed side by side; fields as in TileTriangle.
template <typename T>
struct Batch {
    static constexpr int size = 16;
    alignas(64) T a[3][size], b[3][size], e[3][size], threshold[3][size];
    alignas(64) T inv_det[size], nearest[size];
    int32_t id[size];
    int32_t pass[size];  // 0 towards the camera, 1 away, 2 not to be drawn
};

template <typename T>
void set_up(const RasterArgs<T>& args, const T* points, const int32_t* ids, int count, int tile_x, int tile_y, Batch<T>& out) {
    using L = Lanes<double>;
    using V = typename L::V;
    constexpr int n = Batch<T>::size;
    alignas(64) double q[9][n];
    for (int l = 0; l < n; ++l) {
        const int32_t id = ids[l < count ? l : count - 1];
        const int32_t* face = args.faces + int64_t(id) * 3;
        out.id[l] = id;
        for (int k = 0; k < 3; ++k) {
            const T* p = points + int64_t(face[k]) * 3;
            q[k * 3][l] = double(p[0]);
            q[k * 3 + 1][l] = double(p[1]);
            q[k * 3 + 2][l] = double(p[2]);
        }
    }
    const double x = tile_x + 0.5, y = tile_y + 0.5;
    for (int at = 0; at < n; at += L::count) {
        V p[9], e[9];
        for (int i = 0; i < 9; ++i) p[i] = L::load(q[i] + at);
        const auto edge = [&](const V* u, const V* w, V* to) {
            to[0] = L::difference_of_products(u[1], w[2], u[2], w[1]);
            to[1] = L::difference_of_products(u[2], w[0], u[0], w[2]);
            to[2] = L::difference_of_products(u[0], w[1], u[1], w[0]);
        };
        edge(p + 3, p + 6, e);
        edge(p + 6, p, e + 3);
        edge(p, p + 3, e + 6);
        const V det = p[0] * e[0] + p[1] * e[1] + p[2] * e[2];
        const V zero = {}, one = zero + 1.0;
        const V sign = det < zero ? -one : one, inv_det = 1.0 / (det * sign);
        const V z = L::least(L::least(p[2], p[5]), p[8]);
        const V nearest = z > zero ? 1.00001 / z : zero + std::numeric_limits<double>::infinity();
        auto usable = det != zero;
        const auto put = [&](V v, T* to) {
            for (int l = 0; l < L::count; ++l) to[at + l] = T(v[l]);
        };
        for (int i = 0; i < 3; ++i) {
            const V n0 = e[i * 3] * sign, n1 = e[i * 3 + 1] * sign, n2 = e[i * 3 + 2] * sign;
            const V c = n0 * x + (n1 * y + n2);
            const V threshold = ((n0 > zero) | ((n0 == zero) & (n1 > zero))) ? zero : zero + double(kRasterPositive);
            usable &= (n0 != zero) | (n1 != zero) | (n2 != zero);
            put(n0, out.a[i]);
            put(n1, out.b[i]);
            put(c, out.e[i]);
            put(threshold, out.threshold[i]);
        }
        put(inv_det, out.inv_det);
        put(nearest, out.nearest);
        for (int l = 0; l < L::count; ++l) out.pass[at + l] = !usable[l] ? 2 : det[l] < 0 ? 0 : args.cull ? 2 : 1;
    }
}

// z-buffer of one tile. Rows are stored in interleaved pairs, so that one vector holds a block of two rows; a block
// may start at any column and hang over the right edge into the padding.
template <typename T>
struct TileBuffer {
    using L = Lanes<T>;
    using V = typename L::V;
    using M = typename L::M;
    using Integer = typename L::Integer;
    static constexpr int lanes = L::count;
    static constexpr int columns = lanes / 2;
    static constexpr int stride = (kRasterTile + columns) * 2;
    static constexpr int size = kRasterTile / 2 * stride;

    alignas(64) T inverse[size];    // 1 / depth
    alignas(64) Integer id[size];   // -1 for none
    alignas(64) T part[3][size];    // edge functions over det: what 1 / depth is the sum of
    V lane_x, lane_y, row;
    std::vector<Batch<T>> batches;

    TileBuffer() {
        for (int l = 0; l < lanes; ++l) {
            lane_x[l] = T(l >> 1);
            lane_y[l] = T(l & 1);
            row[l] = T(l);
        }
    }

    void clear() {
        std::fill(std::begin(inverse), std::end(inverse), T(0));
        std::fill(std::begin(id), std::end(id), Integer(-1));
    }

    // Whether a triangle that comes no nearer than `nearest` (1 / depth) is hidden in the whole box.
    bool hidden(int x0, int y0, int x1, int y1, T nearest) const {
        const V bound = L::all(nearest);
#ifdef __AVX512F__
        if constexpr (sizeof(T) == 4) {
            __mmask16 nearer = 0;
            for (int y = y0 & ~1; y <= y1; y += 2)
                for (int x = x0; x <= x1; x += columns)
                    nearer |= _mm512_cmp_ps_mask(_mm512_loadu_ps(inverse + (y >> 1) * stride + x * 2), bound, _CMP_LE_OQ);
            return nearer == 0;
        }
#endif
        M nearer = {};
        for (int y = y0 & ~1; y <= y1; y += 2)
            for (int x = x0; x <= x1; x += columns) nearer |= L::load(inverse + (y >> 1) * stride + x * 2) <= bound;
        return !L::any(nearer);
    }

    struct Edges {
        V a[3], b[3], e[3], threshold[3], inv_det, limit;
    };

    void block(const Edges& t, Integer which, int x, int y) {
        const int at = (y >> 1) * stride + x * 2;
        const V px = lane_x + T(x), py = lane_y + T(y);
        const V e0 = t.a[0] * px + (t.b[0] * py + t.e[0]);
        const V e1 = t.a[1] * px + (t.b[1] * py + t.e[1]);
        const V e2 = t.a[2] * px + (t.b[2] * py + t.e[2]);
        const V s0 = e0 * t.inv_det, s1 = e1 * t.inv_det, s2 = e2 * t.inv_det;
        const V w = (s0 + s1) + s2;
#ifdef __AVX512F__
        if constexpr (sizeof(T) == 4) {
            __mmask16 m = _mm512_cmp_ps_mask(w, _mm512_loadu_ps(inverse + at), _CMP_GT_OQ);
            m = _mm512_mask_cmp_ps_mask(m, e0, t.threshold[0], _CMP_GE_OQ);
            m = _mm512_mask_cmp_ps_mask(m, e1, t.threshold[1], _CMP_GE_OQ);
            m = _mm512_mask_cmp_ps_mask(m, e2, t.threshold[2], _CMP_GE_OQ);
            m = _mm512_mask_cmp_ps_mask(m, w, t.limit, _CMP_LE_OQ);
            _mm512_mask_storeu_ps(inverse + at, m, w);
            _mm512_mask_storeu_epi32(id + at, m, _mm512_set1_epi32(which));
            _mm512_mask_storeu_ps(part[0] + at, m, s0);
            _mm512_mask_storeu_ps(part[1] + at, m, s1);
            _mm512_mask_storeu_ps(part[2] + at, m, s2);
            return;
        }
#endif
        const V z = L::load(inverse + at);
        const M take = (e0 >= t.threshold[0]) & (e1 >= t.threshold[1]) & (e2 >= t.threshold[2]) & (w > z) & (w <= t.limit);
        L::store(inverse + at, take ? w : z);
        L::store(id + at, take ? M{} + which : L::load(id + at));
        L::store(part[0] + at, take ? s0 : L::load(part[0] + at));
        L::store(part[1] + at, take ? s1 : L::load(part[1] + at));
        L::store(part[2] + at, take ? s2 : L::load(part[2] + at));
    }

    // Box in pixels from the tile's corner; `limit` is the largest 1 / depth that is drawn.
    void draw(const Batch<T>& t, int k, int x0, int y0, int x1, int y1, T limit) {
        Edges g;
        for (int i = 0; i < 3; ++i) {
            g.a[i] = L::all(t.a[i][k]);
            g.b[i] = L::all(t.b[i][k]);
            g.e[i] = L::all(t.e[i][k]);
            g.threshold[i] = L::all(t.threshold[i][k]);
        }
        g.inv_det = L::all(t.inv_det[k]);
        g.limit = L::all(limit);
        if (x1 - x0 < 2 * columns) {
            for (int y = y0 & ~1; y <= y1; y += 2)
                for (int x = x0; x <= x1; x += columns) block(g, t.id[k], x, y);
            return;
        }
        // Where an edge meets a row, x = -(b y + e) / a, give or take what rounding does to it.
        T inv_a[3], slack[3];
        for (int i = 0; i < 3; ++i) {
            inv_a[i] = T(1) / t.a[i][k];
            slack[i] = T(0.01) + T(1e-5) * std::abs(inv_a[i]) * (std::abs(t.b[i][k]) * kRasterTile + std::abs(t.e[i][k]));
        }
        for (int y = y0 & ~1; y <= y1; y += lanes) {  // the columns that each row can cover, for one vector of rows
            V lo = L::all(T(x0)), hi = L::all(T(x1));
            for (int i = 0; i < 3; ++i) {
                const V at = -(g.b[i] * (row + T(y)) + g.e[i]) * inv_a[i];
                if (t.a[i][k] > 0) {
                    lo = L::most(at - slack[i], lo);  // NaN keeps the bound
                } else if (t.a[i][k] < 0) {
                    hi = L::least(at + slack[i], hi);
                }
            }
            lo = L::least(lo, L::all(T(x1 + 1)));
            hi = L::most(hi, L::all(T(x0 - 1))) + T(1);
            const M from = __builtin_convertvector(lo, M), to = __builtin_convertvector(hi, M);
            for (int l = 0; l < lanes && y + l <= y1; l += 2) {
                const int last = int(std::max(to[l], to[l + 1])) - 1;
                for (int x = int(std::min(from[l], from[l + 1])); x <= last; x += columns) block(g, t.id[k], x, y + l);
            }
        }
    }

    // Rows y and y + 1 to the output.
    void resolve(int y, int32_t w, int32_t h, int64_t to, const RasterArgs<T>& a) const {
        const int from = (y >> 1) * stride;
        alignas(64) T b[3][kRasterTile * 2], depth[kRasterTile * 2];
        for (int l = 0; l < kRasterTile * 2; l += lanes) {
            const V z = L::load(inverse + from + l);
            const V d = z > V{} ? 1 / z : V{};
            L::store(depth + l, d);
            for (int i = 0; i < 3; ++i) L::store(b[i] + l, z > V{} ? L::load(part[i] + from + l) * d : V{});
        }
        for (int r = 0; r < 2 && y + r < h; ++r) {
            int32_t* out_id = a.triangle + to + r * a.width;
            T* out_depth = a.depth + to + r * a.width;
            T* out = a.barycentrics + (to + r * a.width) * 3;
            for (int x = 0; x < w; ++x) out_id[x] = int32_t(id[from + 2 * x + r]);
            for (int x = 0; x < w; ++x) out_depth[x] = depth[2 * x + r];
            for (int x = 0; x < w; ++x) {
                out[x * 3] = b[0][2 * x + r];
                out[x * 3 + 1] = b[1][2 * x + r];
                out[x * 3 + 2] = b[2][2 * x + r];
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
    const int64_t first = bins.offsets[tile], count = bins.offsets[tile + 1] - first;
    const int64_t corner = (image * a.height + tile_y) * a.width + tile_x;
    if (count == 0) {
        for (int32_t y = 0; y < h; ++y) {
            const int64_t row = corner + int64_t(y) * a.width;
            std::fill(a.triangle + row, a.triangle + row + w, -1);
            std::fill(a.barycentrics + row * 3, a.barycentrics + (row + w) * 3, T(0));
            std::fill(a.depth + row, a.depth + row + w, T(0));
        }
        return;
    }
    constexpr int n = Batch<T>::size;
    const T* points = a.points + image * a.v * 3;
    const T limit = T(1) / a.near;
    buffer.clear();
    const int64_t batches = (count + n - 1) / n;
    buffer.batches.resize(std::max<size_t>(buffer.batches.size(), batches));
    // What faces the camera goes first, so that most of what faces away is found hidden without being drawn.
    for (int pass = 0; pass < 2; ++pass) {
        for (int64_t j = 0; j < batches; ++j) {
            Batch<T>& batch = buffer.batches[j];
            const int in_batch = int(std::min<int64_t>(n, count - j * n));
            if (pass == 0) {
                set_up(a, points, bins.entries.get() + first + j * n, in_batch, tile_x, tile_y, batch);
            }
            for (int k = 0; k < in_batch; ++k) {
                if (batch.pass[k] != pass) continue;
                const Box16 box = bins.boxes[image * a.f + batch.id[k]];
                const int x0 = std::max(box.x0 - tile_x, 0), y0 = std::max(box.y0 - tile_y, 0);
                const int x1 = std::min(box.x1 - tile_x, w - 1), y1 = std::min(box.y1 - tile_y, h - 1);
                if (pass == 1 && buffer.hidden(x0, y0, x1, y1, batch.nearest[k])) continue;
                buffer.draw(batch, k, x0, y0, x1, y1, limit);
            }
        }
    }
    for (int32_t y = 0; y < h; y += 2) buffer.resolve(y, w, h, corner + int64_t(y) * a.width, a);
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
        // Neighbouring pixels mostly see one triangle: its edges are computed, and its corners added to, once a run.
        int32_t id = -1;
        bool usable = false;
        TriangleEdges edges;
        T run[3][3] = {};
        const auto flush = [&] {
            if (id < 0) return;
            for (int k = 0; k < 3; ++k)
                for (int c = 0; c < 3; ++c) {
                    sums[int64_t(a.faces[int64_t(id) * 3 + k]) * 3 + c] += run[k][c];
                    run[k][c] = T(0);
                }
        };
        for (int64_t i = (image * a.height + y0) * a.width; i < (image * a.height + y1) * a.width; ++i) {
            if (g.triangle[i] != id) {
                flush();
                id = g.triangle[i];
                usable = id >= 0 && triangle_edges(points, a.faces + int64_t(id) * 3, edges);
            }
            if (!usable) continue;
            const T* b = g.barycentrics + i * 3;
            T G[3];
            pixel_gradient(edges, b, g.depth[i], g.grad_barycentrics + i * 3, g.grad_depth[i], G);
            for (int k = 0; k < 3; ++k)
                for (int c = 0; c < 3; ++c) run[k][c] += b[k] * G[c];
        }
        flush();
    });
}

template void rasterize_forward<float>(const RasterArgs<float>&, int);
template void rasterize_forward<double>(const RasterArgs<double>&, int);
template void rasterize_backward<float>(const RasterArgs<float>&, const RasterGrads<float>&, int);
template void rasterize_backward<double>(const RasterArgs<double>&, const RasterGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
