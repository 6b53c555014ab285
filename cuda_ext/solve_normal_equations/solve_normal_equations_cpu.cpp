#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/parallel.h"
#include "solve_normal_equations/solve_normal_equations.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

template <typename T>
struct Solver {
    const SolveArgs<T>& a;
    int n;
    std::vector<T> A, x, rhs, slope;
    std::vector<int> index;
    std::vector<signed char> held, wanted;

    explicit Solver(const SolveArgs<T>& args) : a(args), n(int(args.n)) {
        A.resize(size_t(n) * n), x.resize(n), rhs.resize(n), slope.resize(n), index.resize(n);
        held.resize(n), wanted.resize(n);
    }

    // Cholesky, right-looking on the upper triangle (U' U), so that every inner loop runs along a row.
    bool factorise(int m) {
        for (int p = 0; p < m; ++p) {
            T* row = A.data() + size_t(p) * m;
            if (!(row[p] > T(0))) return false;
            const T inverse = T(1) / std::sqrt(row[p]);
            for (int j = p; j < m; ++j) row[j] *= inverse;
            for (int i = p + 1; i < m; ++i) {
                const T f = row[i];
                T* other = A.data() + size_t(i) * m;
                for (int j = i; j < m; ++j) other[j] -= f * row[j];
            }
        }
        return true;
    }

    bool solve_free(const T* H, const T* g, const T* lower, const T* upper) {
        int m = 0;
        for (int i = 0; i < n; ++i) {
            if (held[i] == kFree) index[m++] = i;
            x[i] = held[i] == kFree ? T(0) : held[i] == kLower ? lower[i] : upper[i];
        }
        for (int r = 0; r < m; ++r) {
            const T* row = H + size_t(index[r]) * n;
            T sum = -g[index[r]];
            for (int j = 0; j < n; ++j) sum -= row[j] * x[j];
            rhs[r] = sum;
            for (int c = r; c < m; ++c) A[size_t(r) * m + c] = row[index[c]];
        }
        if (!factorise(m)) return false;
        for (int r = 0; r < m; ++r) {  // U' y = rhs
            const T* row = A.data() + size_t(r) * m;
            const T y = rhs[r] /= row[r];
            for (int j = r + 1; j < m; ++j) rhs[j] -= row[j] * y;
        }
        for (int r = m - 1; r >= 0; --r) {
            const T* row = A.data() + size_t(r) * m;
            T sum = rhs[r];
            for (int j = r + 1; j < m; ++j) sum -= row[j] * rhs[j];
            rhs[r] = sum / row[r];
        }
        for (int r = 0; r < m; ++r) x[index[r]] = rhs[r];
        return true;
    }

    void run(int64_t b) {
        const T *H = a.H + b * n * n, *g = a.g + b * n, *lower = a.lower + b * n, *upper = a.upper + b * n;
        T* out = a.x + b * n;
        T size = T(0);
        for (int i = 0; i < n; ++i) {
            size = std::max(size, std::abs(g[i]));
            held[i] = lower[i] >= T(0) && g[i] > T(0) ? kLower : upper[i] <= T(0) && g[i] < T(0) ? kUpper : kFree;
        }
        const T tolerance = size * std::numeric_limits<T>::epsilon() * T(16);
        int best = n + 1, patience = kPatience, rounds = 0;
        for (;;) {
            ++rounds;
            if (!solve_free(H, g, lower, upper)) {
                std::fill(out, out + n, T(0));
                a.rounds[b] = -1;
                return;
            }
            int wrong = 0, last = -1;
            for (int i = 0; i < n; ++i) {
                T d = T(0);
                if (held[i] != kFree) {
                    d = g[i];
                    const T* row = H + size_t(i) * n;
                    for (int j = 0; j < n; ++j) d += row[j] * x[j];
                }
                wanted[i] = where(held[i], x[i], d, lower[i], upper[i], tolerance);
                if (wanted[i] != held[i]) ++wrong, last = i;
            }
            if (wrong == 0 || rounds == kMaxRounds) break;
            const bool all = wrong < best || patience > 0;
            if (wrong < best) best = wrong, patience = kPatience;
            else --patience;
            if (all) held = wanted;
            else held[last] = wanted[last];
        }
        for (int i = 0; i < n; ++i) out[i] = std::min(std::max(x[i], lower[i]), upper[i]);
        a.rounds[b] = rounds;
    }
};

}  // namespace

template <typename T>
void solve_normal_equations_forward(const SolveArgs<T>& a, int threads) {
    parallel_for(a.b, 4, threads, [&](int64_t begin, int64_t end, int) {
        Solver<T> solver(a);
        for (int64_t b = begin; b < end; ++b) solver.run(b);
    });
}

template void solve_normal_equations_forward<float>(const SolveArgs<float>&, int);
template void solve_normal_equations_forward<double>(const SolveArgs<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
