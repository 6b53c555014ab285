// Rows are made in blocks that stay in the first-level cache, and added to J^T J in register tiles of 8 x 2 vectors.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "common/parallel.h"
#include "landmark_equations/landmark_equations.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

template <typename T>
struct Wide {
    typedef T V __attribute__((vector_size(kBytes), aligned(sizeof(T)), may_alias));
    static constexpr int lanes = kBytes / int(sizeof(T));
    static V load(const T* p) { return *reinterpret_cast<const V*>(p); }
    static void store(T* p, V v) { *reinterpret_cast<V*>(p) = v; }
};

// Halves added to halves, in registers.
template <typename T, int Bytes>
inline T tree_sum(const void* vector) {
    if constexpr (Bytes == int(sizeof(T))) {
        T value;
        std::memcpy(&value, vector, sizeof(T));
        return value;
    } else {
        typedef T Half __attribute__((vector_size(Bytes / 2)));
        Half halves[2];
        std::memcpy(halves, vector, Bytes);
        const Half sum = halves[0] + halves[1];
        return tree_sum<T, Bytes / 2>(&sum);
    }
}

struct WideDot {
    template <typename T>
    T operator()(const T* a, const T* b, int64_t n) const {
        using W = Wide<T>;
        typedef T Small __attribute__((vector_size(16), aligned(sizeof(T)), may_alias));
        constexpr int small = 16 / int(sizeof(T));
        typename W::V sum = {};
        Small rest = {};
        int64_t i = 0;
        for (; i + W::lanes <= n; i += W::lanes) sum += W::load(a + i) * W::load(b + i);
        for (; i + small <= n; i += small)
            rest += *reinterpret_cast<const Small*>(a + i) * *reinterpret_cast<const Small*>(b + i);
        T total = tree_sum<T, kBytes>(&sum) + tree_sum<T, 16>(&rest);
        for (; i < n; ++i) total += a[i] * b[i];
        return total;
    }
};

constexpr int kTile = 8;    // rows of H in one register tile
constexpr int kRows = 64;   // rows of J between two updates of H

// Rows i to i + kTile of H += J^T J, columns j to j + N vectors.
template <typename T, int N>
inline void gram_tile(const T* J, int rows, int n, int i, int j, T* H) {
    using W = Wide<T>;
    using V = typename W::V;
    constexpr int L = W::lanes;
    V sum[kTile][N];
    for (int a = 0; a < kTile; ++a)
        for (int w = 0; w < N; ++w) sum[a][w] = W::load(H + (i + a) * n + j + w * L);
    const T* row = J;
    for (int r = 0; r < rows; ++r, row += n) {
        V b[N];
        for (int w = 0; w < N; ++w) b[w] = W::load(row + j + w * L);
        for (int a = 0; a < kTile; ++a)
            for (int w = 0; w < N; ++w) sum[a][w] += b[w] * row[i + a];
    }
    for (int a = 0; a < kTile; ++a)
        for (int w = 0; w < N; ++w) W::store(H + (i + a) * n + j + w * L, sum[a][w]);
}

// The first `upto` rows of H += J^T J for `rows` rows, on and above the diagonal; n is a multiple of a tile's sides.
template <typename T>
void add_gram(const T* J, int rows, int n, int upto, T* H) {
    constexpr int L = Wide<T>::lanes;
    for (int i = 0; i < upto; i += kTile) {
        int j = i / L * L;
        if ((n - j) / L % 2) gram_tile<T, 1>(J, rows, n, i, j, H), j += L;
        for (; j < n; j += 2 * L) gram_tile<T, 2>(J, rows, n, i, j, H);
    }
}

// The sum of log(1 + x), x >= 0: products of a few, and their logarithm.
struct Logarithms {
    double sum = 0, product = 1;

    void add(double x) {
        product *= 1 + x;
        if (product > 1e100) sum += std::log(product), product = 1;
    }
    double total() const { return sum + std::log(product); }
};

// The identity's block of H, summed over all observations. A row of J is four factors on four vectors that do not depend
// on the observation (the identity basis of a landmark, and the expression's scale), so the sum is of four by four
// numbers for each landmark, eight by eight for each pair; their Cholesky factors are rows in place of all the others.
template <typename T>
struct IdentitySum {
    const LandmarkArgs<T>& a;
    std::vector<T> landmarks, pairs;  // [o, l, 2, 4], [o, p, 2, 8]

    explicit IdentitySum(const LandmarkArgs<T>& args) : a(args), landmarks(a.o * a.l * 8), pairs(a.o * a.p * 16) {}
    T* of_landmark(int64_t o, int64_t l) { return landmarks.data() + (o * a.l + l) * 8; }
    T* of_pair(int64_t o, int64_t p) { return pairs.data() + (o * a.p + p) * 16; }

    // Writes up to N rows to `J`, `padded` apart; returns how many.
    template <int N>
    int rows_of(const T* factors, int64_t step, const T* const* vectors, int padded, T* J) const {
        double M[N][N] = {};
        for (int64_t o = 0; o < a.o; ++o)
            for (int r = 0; r < 2; ++r) {
                const T* f = factors + o * step + r * N;
                for (int i = 0; i < N; ++i)
                    for (int j = 0; j <= i; ++j) M[i][j] += double(f[i]) * double(f[j]);
            }
        int rows = 0;
        double top = 0;
        for (int i = 0; i < N; ++i) top = std::max(top, M[i][i]);
        for (int q = 0; q < N; ++q) {
            if (!(M[q][q] > 1e-14 * top)) continue;  // nothing is left in this direction
            const double root = std::sqrt(M[q][q]);
            T* out = J + size_t(rows++) * padded;
            for (int64_t x = 0; x < a.k; ++x) out[x] = T(root) * vectors[q][x];
            for (int i = q + 1; i < N; ++i) {
                const double f = M[i][q] / root;
                for (int64_t x = 0; x < a.k; ++x) out[x] += T(f) * vectors[i][x];
                for (int j = q + 1; j <= i; ++j) M[i][j] -= f * M[j][q] / root;
            }
        }
        return rows;
    }

    // Into the block of the first observation.
    void write(int threads) {
        constexpr int L = Wide<T>::lanes, kParts = 8;
        const int step = std::max(kTile, L), k = int(a.k), padded = (k + step - 1) / step * step;
        const int64_t items = a.l + a.p, size = int64_t(padded) * padded;
        std::vector<T> sums(kParts * size);
        parallel_for(kParts, 1, threads, [&](int64_t begin, int64_t end, int) {
            std::vector<T> J(size_t(kRows + 8) * padded);
            for (int64_t part = begin; part < end; ++part) {
                int filled = 0;
                for (int64_t i = part * items / kParts; i < (part + 1) * items / kParts; ++i) {
                    T* rows = J.data() + size_t(filled) * padded;
                    if (i < a.l) {
                        const T* b = a.identity_basis + i * 3 * k;
                        const T* vectors[4] = {b, b + k, b + 2 * k, a.expression_scale};
                        filled += rows_of<4>(of_landmark(0, i), a.l * 8, vectors, padded, rows);
                    } else {
                        const T* b = a.identity_basis + a.pairs[(i - a.l) * 2] * 3 * k;
                        const T* c = a.identity_basis + a.pairs[(i - a.l) * 2 + 1] * 3 * k;
                        const T* vectors[8] = {b, b + k, b + 2 * k, a.expression_scale,
                                               c, c + k, c + 2 * k, a.expression_scale};
                        filled += rows_of<8>(of_pair(0, i - a.l), a.p * 16, vectors, padded, rows);
                    }
                    if (filled >= kRows) add_gram(J.data(), filled, padded, padded, sums.data() + part * size), filled = 0;
                }
                if (filled) add_gram(J.data(), filled, padded, padded, sums.data() + part * size);
            }
        });
        const int64_t n = a.unknowns();
        T* out = a.H + (n - k) * n + n - k;
        for (int i = 0; i < k; ++i)
            for (int j = i; j < k; ++j) {
                T total = T(0);
                for (int part = 0; part < kParts; ++part) total += sums[part * size + i * padded + j];
                out[i * n + j] = out[j * n + i] = total;
            }
    }
};

// Columns of J: the unknowns, with the residual before the identity, which gives J^T r for free.
template <typename T>
struct Worker {
    const LandmarkArgs<T>& a;
    IdentitySum<T>* identity;
    int n, e, k, before, padded, upto, filled = 0;
    T scale;
    std::vector<T> J, H;
    std::vector<LandmarkView<T>> views;

    Worker(const LandmarkArgs<T>& args, IdentitySum<T>* sums) : a(args), identity(sums) {
        constexpr int L = Wide<T>::lanes;
        n = int(a.unknowns()), e = int(a.e), k = int(a.k);
        before = e + 6 + (a.shared ? 1 : 0);
        const int step = std::max(kTile, L);
        padded = (n + 1 + step - 1) / step * step;
        upto = identity ? (before + 1 + kTile - 1) / kTile * kTile : padded;
        J.assign(size_t(kRows) * padded, T(0));
        H.resize(size_t(padded) * padded);
        views.resize(a.l);
        scale = a.scratch[a.l * 3];
    }

    // out[j] = sum_i c_i basis[i][j] (- sum_i b_i other[i][j]) for both rows; the last vector overlaps the one before.
    void expression_columns(const T* basis, const T* c, const T* other, const T* b, T* out) {
        using W = Wide<T>;
        using V = typename W::V;
        constexpr int L = W::lanes;
        for (int at = 0; at < e; at += L) {
            if (e < L) {
                for (int r = 0; r < 2; ++r)
                    for (int j = 0; j < e; ++j) {
                        T sum = T(0);
                        for (int i = 0; i < 3; ++i) sum += c[r * 3 + i] * basis[i * e + j] - (other ? b[r * 3 + i] * other[i * e + j] : T(0));
                        out[r * padded + j] = sum;
                    }
                return;
            }
            const int j = std::min(at, e - L);
            V x[3];
            for (int i = 0; i < 3; ++i) x[i] = W::load(basis + i * e + j);
            V sum[2];
            for (int r = 0; r < 2; ++r) sum[r] = c[r * 3] * x[0] + c[r * 3 + 1] * x[1] + c[r * 3 + 2] * x[2];
            if (other) {
                for (int i = 0; i < 3; ++i) x[i] = W::load(other + i * e + j);
                for (int r = 0; r < 2; ++r) sum[r] -= b[r * 3] * x[0] + b[r * 3 + 1] * x[1] + b[r * 3 + 2] * x[2];
            }
            for (int r = 0; r < 2; ++r) W::store(out + r * padded + j, sum[r]);
        }
    }

    // Two rows: weight * (one landmark - another, or nothing).
    void add_rows(int64_t l, const LandmarkView<T>& v, int64_t m, const LandmarkView<T>* u, T root, T* factors) {
        T c[6], b[6];
        for (int i = 0; i < 6; ++i) c[i] = root * scale * v.DR[i], b[i] = u ? root * scale * u->DR[i] : T(0);
        T* rows = J.data() + size_t(filled) * padded;
        expression_columns(a.expression_basis + l * 3 * e, c, u ? a.expression_basis + m * 3 * e : nullptr, b, rows);
        for (int r = 0; r < 2; ++r) {
            T* out = rows + r * padded;
            T pose[7];
            pose_columns(v, r, pose);
            T error = v.residual[r];
            if (u) {
                T less[7];
                pose_columns(*u, r, less);
                for (int i = 0; i < 7; ++i) pose[i] -= less[i];
                error -= u->residual[r];
            }
            for (int i = 0; i < 6; ++i) out[e + i] = root * pose[i];
            out[before] = root * error;
            if (!a.shared) continue;
            out[e + 6] = root * pose[6];
            T own[8];
            identity_factors(v, r, root, own);
            if (u) identity_factors(*u, r, -root, own + 4);
            add_identity(l, own, out + before + 1, false);
            if (u) add_identity(m, own + 4, out + before + 1, true);
            if (factors) std::copy_n(own, u ? 8 : 4, factors + r * (u ? 8 : 4));
        }
        if ((filled += 2) == kRows) flush();
    }

    // On the three rows of the identity basis, and on the expression's scale.
    static void identity_factors(const LandmarkView<T>& v, int r, T root, T* out) {
        for (int i = 0; i < 3; ++i) out[i] = root * v.DR[r * 3 + i];
        out[3] = out[0] * v.moved[0] + out[1] * v.moved[1] + out[2] * v.moved[2];
    }

    void add_identity(int64_t l, const T* c, T* out, bool add) {
        const T* basis = a.identity_basis + l * 3 * k;
        for (int i = 0; i < k; ++i) {
            const T value = c[0] * basis[i] + c[1] * basis[k + i] + c[2] * basis[2 * k + i] + c[3] * a.expression_scale[i];
            out[i] = add ? out[i] + value : value;
        }
    }

    void flush() {
        if (filled) add_gram(J.data(), filled, padded, upto, H.data());
        filled = 0;
    }

    void observe(int64_t o) {
        std::fill(H.begin(), H.end(), T(0));
        Logarithms cost;
        for (int64_t l = 0; l < a.l; ++l) {
            const T weight = a.weights[o * a.l + l];
            const bool seen = weight > T(0);
            if (seen || a.p) view_landmark(a, o, l, a.scratch + l * 3, scale, WideDot{}, views[l]);
            if (seen) add(l, views[l], -1, nullptr, weight, cost, identity ? identity->of_landmark(o, l) : nullptr);
        }
        for (int64_t p = 0; p < a.p; ++p) {
            const T weight = a.pair_weights[o * a.p + p];
            const int64_t l = a.pairs[p * 2], m = a.pairs[p * 2 + 1];
            if (weight > T(0)) add(l, views[l], m, &views[m], weight, cost, identity ? identity->of_pair(o, p) : nullptr);
        }
        flush();
        write(a.H + o * n * n, a.g + o * n);
        a.cost[o] = T(0.5 * double(a.discount) * double(a.cauchy) * double(a.cauchy) * cost.total());
    }

    // Both triangles, without the residual's column. The identity's block is 0 where it is summed elsewhere.
    void write(T* out, T* g) {
        const auto column = [&](int i) { return i < before ? i : i + 1; };
        for (int i = 0; i < n; ++i) {
            const T* row = H.data() + size_t(column(i)) * padded;
            g[i] = i < before ? row[before] : H[size_t(before) * padded + column(i)];
            if (identity && i >= before) {
                std::fill_n(out + i * n + i, n - i, T(0));
                continue;
            }
            for (int j = i; j < std::max(i, before); ++j) out[i * n + j] = row[j];
            std::copy_n(row + column(std::max(i, before)), n - std::max(i, before), out + i * n + std::max(i, before));
        }
        constexpr int kSide = 16;
        for (int i0 = 0; i0 < n; i0 += kSide)  // rows of the lower triangle from columns of the upper one
            for (int j = i0 + 1; j < n; ++j)
                for (int i = i0; i < std::min(i0 + kSide, j); ++i) out[j * n + i] = out[i * n + j];
    }

    void add(int64_t l, const LandmarkView<T>& v, int64_t m, const LandmarkView<T>* u, T weight, Logarithms& cost,
             T* factors) {
        T square = T(0);
        for (int r = 0; r < 2; ++r) {
            const T error = v.residual[r] - (u ? u->residual[r] : T(0));
            square += error * error;
        }
        const T relative = weight * square / (a.cauchy * a.cauchy);
        cost.add(relative);
        add_rows(l, v, m, u, std::sqrt(a.discount * weight / (T(1) + relative)), factors);
    }
};

}  // namespace

template <typename T>
void landmark_equations_forward(const LandmarkArgs<T>& a, int threads) {
    for (int64_t l = 0; l < a.l; ++l) neutral_landmark(a, l, WideDot{}, a.scratch + l * 3);
    a.scratch[a.l * 3] = scale_of(a, WideDot{});
    std::unique_ptr<IdentitySum<T>> identity(a.shared && a.summed && a.o ? new IdentitySum<T>(a) : nullptr);
    parallel_for(a.o, 1, threads, [&](int64_t begin, int64_t end, int) {
        Worker<T> worker(a, identity.get());
        for (int64_t o = begin; o < end; ++o) worker.observe(o);
    });
    if (identity) identity->write(threads);
}

template void landmark_equations_forward<float>(const LandmarkArgs<float>&, int);
template void landmark_equations_forward<double>(const LandmarkArgs<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
