#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "common/parallel.h"
#include "common/simd.h"
#include "solve_chain/solve_chain.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

constexpr int64_t kPanel = 8;

// sum_k rows[k][r + i] rows[k][c ..], for a tile of 4 rows and 2 vectors.
template <typename T>
inline __attribute__((always_inline)) void tile(const T* rows, int64_t stride, int64_t count, int64_t r, int64_t c,
                                                Vec<T> (&sum)[4][2]) {
    for (int64_t k = 0; k < count; ++k) {
        const T* row = rows + k * stride;
        const Vec<T> one = load(row + c), two = load(row + c + Simd<T>::lanes);
        for (int i = 0; i < 4; ++i) sum[i][0] += row[r + i] * one, sum[i][1] += row[r + i] * two;
    }
}

// Cholesky on the upper triangle (U' U) and what follows it in the rows, some pivots at a time.
template <typename T>
void eliminate(T* rows, int64_t n, int64_t stride) {
    constexpr int64_t lanes = Simd<T>::lanes;
    const int64_t width = 3 * n + 1;
    for (int64_t begin = 0; begin < n; begin += kPanel) {
        const int64_t end = std::min(begin + kPanel, n);
        for (int64_t p = begin; p < end; ++p) {
            T* row = rows + p * stride;
            const T inverse = T(1) / std::sqrt(row[p]);
            for (int64_t c = p; c < width; ++c) row[c] *= inverse;
            for (int64_t i = p + 1; i < end; ++i) {
                const T f = row[i];
                T* other = rows + i * stride;
                for (int64_t c = i; c < width; ++c) other[c] -= f * row[c];
            }
        }
        for (int64_t r = end; r < n; r += 4) {
            for (int64_t c = r / lanes * lanes; c < width; c += 2 * lanes) {
                Vec<T> sum[4][2] = {};
                tile(rows + begin * stride, stride, end - begin, r, c, sum);
                for (int64_t i = 0; i < 4 && r + i < n; ++i)
                    for (int64_t j = 0; j < 2; ++j) {
                        T* to = rows + (r + i) * stride + c + j * lanes;
                        store(to, load(to) - sum[i][j]);
                    }
            }
        }
    }
}

// W' W of the couplings W [n, 2n] and right side: a tile of 4 rows and 2 vectors at a time, from the diagonal on.
template <typename T>
void product(const T* rows, int64_t n, int64_t stride, T* out) {
    constexpr int64_t lanes = Simd<T>::lanes;
    for (int64_t r = 0; r < 2 * n; r += 4) {
        for (int64_t c = r / lanes * lanes; c < 2 * n + 1; c += 2 * lanes) {
            Vec<T> sum[4][2] = {};
            tile(rows + n, stride, n, r, c, sum);
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 2; ++j) store(out + (r + i) * stride + c + j * lanes, sum[i][j]);
        }
    }
}

// One row, from the diagonal on; in ranges, so that each is a plain loop.
template <typename T>
void fill(const ChainArgs<T>& a, const T* gone, int64_t item, int64_t frame, int64_t r, T* row) {
    const int64_t n = a.n;
    for (int64_t c = r; c < n; ++c) row[c] = chain_entry(a, gone, item, frame, r, c);
    for (int64_t c = n; c < 2 * n; ++c) row[c] = chain_entry(a, gone, item, frame, r, c);
    for (int64_t c = 2 * n; c < 3 * n; ++c) row[c] = chain_entry(a, gone, item, frame, r, c);
    row[3 * n] = chain_entry(a, gone, item, frame, r, 3 * n);
}

template <typename T>
T dot(const T* a, const T* b, int64_t n) {
    Vec<T> sums{};
    int64_t i = 0;
    for (; i + Simd<T>::lanes <= n; i += Simd<T>::lanes) sums += load(a + i) * load(b + i);
    T out = sum<T>(sums);
    for (; i < n; ++i) out += a[i] * b[i];
    return out;
}

template <typename T>
void solve_item(const ChainArgs<T>& a, int64_t item) {
    const int64_t n = a.n, stride = a.stride();
    std::vector<T> gone((2 * n + 8) * stride), next((2 * n + 8) * stride);
    for (int64_t f = 0; f < a.t; ++f) {
        T* rows = a.factors(item, f);
        for (int64_t r = 0; r < n; ++r) fill(a, gone.data(), item, f, r, rows + r * stride);
        eliminate(rows, n, stride);
        product(rows, n, stride, next.data());
        for (int64_t r = 0; r < n; ++r) {  // what the frame before has taken from the next one
            const T* old = gone.data() + (n + r) * stride;
            for (int64_t c = r; c < n; ++c) next[r * stride + c] += old[n + c];
            next[r * stride + 2 * n] += old[2 * n];
        }
        std::swap(gone, next);
    }
    T* x = a.x + item * a.t * n;
    for (int64_t f = a.t - 1; f >= 0; --f) {
        const T* rows = a.factors(item, f);
        const int64_t known = std::min<int64_t>(3, a.t - f) * n;
        T* own = x + f * n;
        for (int64_t r = n - 1; r >= 0; --r) {
            const T* row = rows + r * stride;
            own[r] = (row[3 * n] - dot(row + r + 1, own + r + 1, known - r - 1)) / row[r];
        }
    }
}

}  // namespace

template <typename T>
void solve_chain_forward(const ChainArgs<T>& a, int threads) {
    parallel_for(a.b, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t item = begin; item < end; ++item) solve_item(a, item);
    });
}

template void solve_chain_forward<float>(const ChainArgs<float>&, int);
template void solve_chain_forward<double>(const ChainArgs<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
