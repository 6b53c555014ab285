// Rows are made in blocks that stay in the first-level cache, and added to J^T J in register tiles of 8 x 2 vectors.
#include <algorithm>
#include <cmath>
#include <cstring>
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

struct WideDot {
    template <typename T>
    T operator()(const T* a, const T* b, int64_t n) const {
        using W = Wide<T>;
        typename W::V sum = {};
        int64_t i = 0;
        for (; i + W::lanes <= n; i += W::lanes) sum += W::load(a + i) * W::load(b + i);
        T total = T(0);
        for (int k = 0; k < W::lanes; ++k) total += sum[k];
        for (; i < n; ++i) total += a[i] * b[i];
        return total;
    }
};

constexpr int kTile = 8;    // rows of H in one register tile
constexpr int kRows = 64;   // rows of J between two updates of H

// H += J^T J for `rows` rows, on and above the diagonal; n is a multiple of both sides of a tile.
template <typename T>
void add_gram(const T* J, int rows, int n, T* H) {
    using W = Wide<T>;
    using V = typename W::V;
    constexpr int L = W::lanes;
    for (int i = 0; i < n; i += kTile) {
        for (int j = (i / (2 * L)) * 2 * L; j < n; j += 2 * L) {
            V sum[kTile][2];
            for (int a = 0; a < kTile; ++a) {
                sum[a][0] = W::load(H + (i + a) * n + j);
                sum[a][1] = W::load(H + (i + a) * n + j + L);
            }
            const T* row = J;
            for (int r = 0; r < rows; ++r, row += n) {
                const V b0 = W::load(row + j), b1 = W::load(row + j + L);
                for (int a = 0; a < kTile; ++a) {
                    sum[a][0] += b0 * row[i + a];
                    sum[a][1] += b1 * row[i + a];
                }
            }
            for (int a = 0; a < kTile; ++a) {
                W::store(H + (i + a) * n + j, sum[a][0]);
                W::store(H + (i + a) * n + j + L, sum[a][1]);
            }
        }
    }
}

template <typename T>
struct Worker {
    const LandmarkArgs<T>& a;
    int n, padded, filled = 0;
    T scale;
    std::vector<T> J, H, residual;
    std::vector<LandmarkView<T>> views;

    explicit Worker(const LandmarkArgs<T>& args) : a(args) {
        const int step = std::max(kTile, 2 * Wide<T>::lanes);
        n = int(a.unknowns());
        padded = (n + 1 + step - 1) / step * step;  // one more column: the residual, which gives J^T r for free
        J.assign(size_t(kRows) * padded, T(0));
        H.resize(size_t(padded) * padded);
        views.resize(a.l);
        scale = a.scratch[a.l * 3];
    }

    // Two rows: weight * (one landmark - another, or nothing).
    void add_rows(int64_t l, const LandmarkView<T>& v, int64_t m, const LandmarkView<T>* u, T root) {
        const int e = int(a.e);
        for (int r = 0; r < 2; ++r) {
            T* out = J.data() + size_t(filled) * padded;
            T c[3];
            for (int i = 0; i < 3; ++i) c[i] = root * scale * v.DR[r * 3 + i];
            const T* basis = a.expression_basis + l * 3 * e;
            for (int j = 0; j < e; ++j) out[j] = c[0] * basis[j] + c[1] * basis[e + j] + c[2] * basis[2 * e + j];
            T pose[7];
            pose_columns(v, r, pose);
            T error = v.residual[r];
            T b[3];
            if (u) {
                for (int i = 0; i < 3; ++i) b[i] = root * scale * u->DR[r * 3 + i];
                const T* other = a.expression_basis + m * 3 * e;
                for (int j = 0; j < e; ++j) out[j] -= b[0] * other[j] + b[1] * other[e + j] + b[2] * other[2 * e + j];
                T less[7];
                pose_columns(*u, r, less);
                for (int i = 0; i < 7; ++i) pose[i] -= less[i];
                error -= u->residual[r];
            }
            for (int i = 0; i < 6; ++i) out[e + i] = root * pose[i];
            if (a.shared) {
                out[e + 6] = root * pose[6];
                T* tail = out + e + 7;
                add_identity(l, v, r, root, tail, false);
                if (u) add_identity(m, *u, r, -root, tail, true);
            }
            out[n] = root * error;
            if (++filled == kRows) flush();
        }
    }

    void add_identity(int64_t l, const LandmarkView<T>& v, int r, T root, T* out, bool add) {
        const int k = int(a.k);
        const T *d = v.DR + r * 3, *basis = a.identity_basis + l * 3 * k;
        const T c0 = root * d[0], c1 = root * d[1], c2 = root * d[2];
        const T along = c0 * v.moved[0] + c1 * v.moved[1] + c2 * v.moved[2];
        for (int i = 0; i < k; ++i) {
            const T value = c0 * basis[i] + c1 * basis[k + i] + c2 * basis[2 * k + i] + along * a.expression_scale[i];
            out[i] = add ? out[i] + value : value;
        }
    }

    void flush() {
        if (filled) add_gram(J.data(), filled, padded, H.data());
        filled = 0;
    }

    void observe(int64_t o) {
        std::fill(H.begin(), H.end(), T(0));
        double cost = 0;
        for (int64_t l = 0; l < a.l; ++l) {
            const T weight = a.weights[o * a.l + l];
            const bool seen = weight > T(0);
            if (seen || a.p) view_landmark(a, o, l, a.scratch + l * 3, scale, WideDot{}, views[l]);
            if (seen) add(l, views[l], -1, nullptr, weight, cost);
        }
        for (int64_t p = 0; p < a.p; ++p) {
            const T weight = a.pair_weights[o * a.p + p];
            const int64_t l = a.pairs[p * 2], m = a.pairs[p * 2 + 1];
            if (weight > T(0)) add(l, views[l], m, &views[m], weight, cost);
        }
        flush();
        T *out = a.H + o * n * n, *g = a.g + o * n;
        for (int i = 0; i < n; ++i) {
            for (int j = i; j < n; ++j) out[i * n + j] = out[j * n + i] = H[size_t(i) * padded + j];
            g[i] = H[size_t(i) * padded + n];
        }
        a.cost[o] = T(cost);
    }

    void add(int64_t l, const LandmarkView<T>& v, int64_t m, const LandmarkView<T>* u, T weight, double& cost) {
        T square = T(0), loss;
        for (int r = 0; r < 2; ++r) {
            const T error = v.residual[r] - (u ? u->residual[r] : T(0));
            square += error * error;
        }
        const T factor = robust(weight * square, a.cauchy, &loss);
        cost += double(a.discount * loss);
        add_rows(l, v, m, u, std::sqrt(a.discount * weight * factor));
    }
};

}  // namespace

template <typename T>
void landmark_equations_forward(const LandmarkArgs<T>& a, int threads) {
    for (int64_t l = 0; l < a.l; ++l) neutral_landmark(a, l, WideDot{}, a.scratch + l * 3);
    a.scratch[a.l * 3] = scale_of(a, WideDot{});
    parallel_for(a.o, 1, threads, [&](int64_t begin, int64_t end, int) {
        Worker<T> worker(a);
        for (int64_t o = begin; o < end; ++o) worker.observe(o);
    });
}

template void landmark_equations_forward<float>(const LandmarkArgs<float>&, int);
template void landmark_equations_forward<double>(const LandmarkArgs<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
