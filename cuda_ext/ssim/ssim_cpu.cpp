// Strips of columns, four rows at a time: rows are filtered along x into a ring that stays in cache, the ring along y
// into windows, and the windows' gradients the same way back. Nothing the size of an image is kept.
#include "ssim/ssim.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "common/parallel.h"
#include "common/simd.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

constexpr int kRows = 4;         // rows that are filtered along y together
constexpr int kRing = 16;        // >= kRows + kSsimWindow - 1, a power of two
constexpr int64_t kStrip = 1024;  // numbers in a row of a strip, about
constexpr int64_t kLeastRows = 32;

// Rows of several maps, each padded to whole vectors.
template <typename T>
class Maps {
   public:
    Maps(int maps, int rows, int64_t size)
        : rows_(rows),
          stride_((size + 3 * Simd<T>::lanes) / Simd<T>::lanes * Simd<T>::lanes),
          memory_(std::calloc(maps * rows * stride_ * sizeof(T) + 64, 1)),
          first_(reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory_.get()) + 63) & ~uintptr_t(63))) {}
    T* row(int map, int64_t row) { return first_ + (map * rows_ + row) * stride_; }
    const T* row(int map, int64_t row) const { return first_ + (map * rows_ + row) * stride_; }

   private:
    struct Free {
        void operator()(void* p) const { std::free(p); }
    };
    int64_t rows_, stride_;
    std::unique_ptr<void, Free> memory_;
    T* first_;
};

// The first `count` numbers of a vector, zeros in the others.
template <typename T>
inline __attribute__((always_inline)) Vec<T> load_first(const T* p, int64_t count) {
    if (count >= Simd<T>::lanes) return load(p);
    Vec<T> v{};
    std::memcpy(&v, p, count * sizeof(T));
    return v;
}

template <typename T>
inline __attribute__((always_inline)) void store_first(T* p, Vec<T> v, int64_t count) {
    if (count >= Simd<T>::lanes) return store(p, v);
    std::memcpy(p, &v, count * sizeof(T));
}

// out[i] = sum_k tap_k in[i + k step], i < n; both padded.
template <typename T>
void filter_row(const T* in, int64_t step, int64_t n, T* out) {
    using V = Vec<T>;
    for (int64_t i = 0; i < n; i += Simd<T>::lanes) {
        V even{}, odd{};
#pragma GCC unroll 11
        for (int k = 0; k < kSsimWindow; ++k) (k % 2 ? odd : even) += ssim_tap<T>(k) * load(in + i + k * step);
        store(out + i, even + odd);
    }
}

// kRows rows filtered along y at column i: rows `first`.. of the ring, and the kSsimWindow - 1 that follow.
template <typename T>
inline __attribute__((always_inline)) void filter_column(const T* const* rows, int64_t i, Vec<T>* out) {
    for (int r = 0; r < kRows; ++r) out[r] = Vec<T>{};
#pragma GCC unroll 14
    for (int k = 0; k < kRows + kSsimWindow - 1; ++k) {
        const Vec<T> v = load(rows[k] + i);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r)
            if (k - r >= 0 && k - r < kSsimWindow) out[r] += ssim_tap<T>(k - r) * v;
    }
}

template <typename T>
struct Strip {
    const SsimArgs<T>& a;
    const int64_t image, x0, x1, y0, y1;  // what is written
    const bool with_grad;
    const int64_t c = a.channels;
    const int64_t reach = with_grad ? kSsimRadius : 0;               // windows beyond the strip
    const int64_t windows = (x1 - x0 + 2 * reach) * c;               // numbers in a row of windows
    const int64_t pixels = windows + 2 * kSsimRadius * c;            // in a row of pixels
    const int64_t begin = y0 - reach - kSsimRadius;                  // first row of pixels
    const int64_t end = y1 + reach + kSsimRadius;
    const int back = a.grad_b ? 4 : 3;                               // maps that go back
    Maps<T> input{4, 1, pixels}, ring{4, kRing, windows};
    Maps<T> similarity{1, kRows, windows}, weight{1, 1, windows + Simd<T>::lanes};
    Maps<T> slopes{with_grad ? back : 0, kRows, windows}, slopes_ring{with_grad ? back : 0, kRing, windows};
    std::vector<T> plain;  // the weights of a row where none are given

    template <typename F>
    static void each_vector(int64_t n, F&& fn) {
        int64_t i = 0;
        for (; i + Simd<T>::lanes <= n; i += Simd<T>::lanes) fn(i, int64_t(Simd<T>::lanes));
        if (i < n) fn(i, n - i);
    }

    // The weights of a row of windows, zero where none counts; null if that is so everywhere.
    const T* weights_of(int64_t y) {
        if (y < a.margin || y >= a.height - a.margin) return nullptr;
        const int64_t lo = std::max(x0 - reach, a.margin), hi = std::min(x1 + reach, a.width - a.margin);
        T* row = weight.row(0, 0);
        const T* given = a.weights ? a.weights + (image * a.height + y) * a.width : nullptr;
        if (!given && !plain.empty()) return plain.data();
        std::fill(row, row + windows + Simd<T>::lanes, T(0));
        for (int64_t x = lo; x < hi; ++x)
            for (int64_t k = 0; k < c; ++k) row[(x - x0 + reach) * c + k] = given ? given[x] : T(1);
        if (!given) plain.assign(row, row + windows + 2 * Simd<T>::lanes);
        return row;
    }

    void read_row(int64_t y) {
        T* rows[4];
        for (int m = 0; m < 4; ++m) rows[m] = input.row(m, 0);
        const int64_t left = x0 - reach - kSsimRadius, from = std::max<int64_t>(left, 0) * c - left * c;
        const int64_t to = std::min<int64_t>(left * c + pixels, a.width * c) - left * c;
        const bool inside = y >= 0 && y < a.height;
        const int64_t at = (image * a.height + y) * a.width * c + left * c;
        for (int m = 0; m < 2; ++m) {
            std::fill(rows[m], rows[m] + (inside ? from : pixels), T(-0.5));
            if (!inside) continue;
            const T* source = (m ? a.b : a.a) + at + from;
            for (int64_t i = from; i < to; ++i) rows[m][i] = source[i - from] - T(0.5);
            std::fill(rows[m] + to, rows[m] + pixels, T(-0.5));
        }
        for (int64_t i = 0; i < pixels; i += Simd<T>::lanes) {
            const Vec<T> p = load(rows[0] + i), q = load(rows[1] + i);
            store(rows[2] + i, p * p + q * q);
            store(rows[3] + i, p * q);
        }
    }

    // Windows of the rows y..y + kRows, whose pixels stand in the ring from row `first` on.
    void make_windows(int64_t first, int64_t y, double* sums) {
        using V = Vec<T>;
        const T* rows[4][kRows + kSsimWindow - 1];
        for (int m = 0; m < 4; ++m)
            for (int k = 0; k < kRows + kSsimWindow - 1; ++k) rows[m][k] = ring.row(m, (first + k) & (kRing - 1));
        for (int64_t i = 0; i < windows; i += Simd<T>::lanes) {
            V maps[4][kRows];
            for (int m = 0; m < 4; ++m) filter_column<T>(rows[m], i, maps[m]);
            for (int r = 0; r < kRows; ++r) {
                const SsimWindow<V> w = ssim_window<T>(maps[0][r], maps[1][r], maps[2][r], maps[3][r]);
                store(similarity.row(0, r) + i, w.similarity);
                if (!with_grad) continue;
                store(slopes.row(0, r) + i, w.d_a);
                store(slopes.row(1, r) + i, w.d_q);
                store(slopes.row(2, r) + i, w.d_ab);
                if (back == 4) store(slopes.row(3, r) + i, w.d_b);
            }
        }
        for (int r = 0; r < kRows; ++r) {
            const T* w = weights_of(y + r);
            if (w && sums && y + r >= y0 && y + r < y1) sums[y + r] = row_value(y + r, w, similarity.row(0, r));
            if (!with_grad) continue;
            for (int m = 0; m < back; ++m) {  // `input` serves as a buffer
                T *row = input.row(m, 0), *out = slopes_ring.row(m, (first + r) & (kRing - 1));
                if (!w) {
                    std::fill(out, out + (x1 - x0) * c, T(0));
                    continue;
                }
                const T* slope = slopes.row(m, r);
                for (int64_t i = 0; i < windows; i += Simd<T>::lanes) {
                    const V k = load(w + i);
                    store(row + i, k != V{} ? k * load(slope + i) : V{});
                }
                filter_row(row, c, (x1 - x0) * c, out);
            }
        }
    }

    double row_value(int64_t y, const T* w, const T* s) const {
        using V = Vec<T>;
        const int64_t at = ((image * a.height + y) * a.width + x0) * c;
        const T *p = a.a + at, *q = a.b + at, l1 = a.l1, ssim = a.ssim, offset = a.offset;
        w += reach * c, s += reach * c;
        V total{};
        each_vector((x1 - x0) * c, [&](int64_t i, int64_t n) {
            const V k = load_first(w + i, n), d = load_first(p + i, n) - load_first(q + i, n);
            const V term = l1 * (d < V{} ? -d : d) + (ssim * load(s + i) + offset);
            total += k != V{} ? k * term : V{};
        });
        return sum<T>(total);
    }

    // Gradients of the rows y..y + kRows.
    void write_rows(int64_t first, int64_t y) {
        using V = Vec<T>;
        const T* rows[4][kRows + kSsimWindow - 1];
        for (int m = 0; m < back; ++m)
            for (int k = 0; k < kRows + kSsimWindow - 1; ++k) rows[m][k] = slopes_ring.row(m, (first + k) & (kRing - 1));
        Maps<T>& filtered = slopes;
        const int64_t n = (x1 - x0) * c;
        for (int64_t i = 0; i < n; i += Simd<T>::lanes) {
            for (int m = 0; m < back; ++m) {
                V out[kRows];
                filter_column<T>(rows[m], i, out);
                for (int r = 0; r < kRows; ++r) store(filtered.row(m, r) + i, out[r]);
            }
        }
        const T scale = a.scale ? a.scale[image] : T(1), l1 = a.l1 * scale, ssim = a.ssim * scale;
        for (int r = 0; r < kRows; ++r) {
            if (y + r < y0 || y + r >= y1) continue;
            const int64_t at = ((image * a.height + y + r) * a.width + x0) * c;
            const T *p = a.a + at, *q = a.b + at, *d_q = filtered.row(1, r), *d_ab = filtered.row(2, r);
            const T* w = a.l1 != T(0) ? weights_of(y + r) : nullptr;
            for (int side = 0; side < 2; ++side) {
                T* out = side ? a.grad_b : a.grad_a;
                if (!out) continue;
                const T *d_mean = filtered.row(side ? 3 : 0, r), *v = w ? w + reach * c : nullptr;
                each_vector(n, [&](int64_t i, int64_t count) {
                    const V x = load_first(p + i, count), y = load_first(q + i, count);
                    V g = ssim * (load(d_mean + i) + (x + x - T(1)) * load(d_q + i) + (y - T(0.5)) * load(d_ab + i));
                    if (v) g += l1 * load(v + i) * (x > y ? V{} + T(1) : x < y ? V{} - T(1) : V{});
                    store_first(out + at + i, g, count);
                });
                std::swap(p, q);
            }
        }
    }

    void run(double* sums) {
        for (int64_t i = 0; begin + i < end; i += kRows) {
            for (int64_t r = i; r < i + kRows; ++r) {
                read_row(begin + r);
                for (int m = 0; m < 4; ++m) filter_row(input.row(m, 0), c, windows, ring.row(m, r & (kRing - 1)));
            }
            // Of row number r in the ring, the window's centre is row r + radius, which lies at begin + r + radius.
            const int64_t first = i + kRows - (kRows + kSsimWindow - 1);
            if (first < 0 && first + kRows <= 0) continue;
            make_windows(first, begin + first + kSsimRadius, sums);
            if (with_grad) {
                const int64_t second = first - (kSsimWindow - 1);
                if (second + kRows > 0) write_rows(second, begin + second + 2 * kSsimRadius);
            }
        }
    }
};

}  // namespace

template <typename T>
void ssim_forward(const SsimArgs<T>& a, int threads) {
    if (a.value) std::fill(a.value, a.value + a.images, T(0));
    if (a.images * a.height * a.width * a.channels == 0) return;
    const int64_t strips = std::max<int64_t>(1, std::min(a.width, a.width * a.channels / kStrip));
    const int64_t most = std::max<int64_t>(1, a.height / kLeastRows);
    const int64_t bands = threads == 1 ? 1 : std::min(most, (threads * 3 - 1 + a.images * strips) / (a.images * strips));
    std::vector<double> sums(a.images * strips * a.height, 0.0);
    parallel_for(a.images * strips * bands, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t image = i / (strips * bands), strip = i / bands % strips, band = i % bands;
            Strip<T> part{a,
                          image,
                          a.width * strip / strips,
                          a.width * (strip + 1) / strips,
                          a.height * band / bands,
                          a.height * (band + 1) / bands,
                          a.grad_a || a.grad_b};
            part.run(a.value ? sums.data() + (image * strips + strip) * a.height : nullptr);
        }
    });
    if (!a.value) return;
    for (int64_t image = 0; image < a.images; ++image) {
        double total = 0;
        for (int64_t i = 0; i < strips * a.height; ++i) total += sums[image * strips * a.height + i];
        a.value[image] = T(total);
    }
}

template void ssim_forward<float>(const SsimArgs<float>&, int);
template void ssim_forward<double>(const SsimArgs<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
