// One block per system; the free part of H is factorised in shared memory.
#include "common/cuda.h"
#include "solve_normal_equations/solve_normal_equations.h"

namespace avatar3d {
namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMost = 96;  // unknowns; 96^2 floats or 8-byte numbers fit where opt-in shared memory does

template <typename T>
__global__ void solve_kernel(SolveArgs<T> a) {
    extern __shared__ unsigned char memory[];
    T* A = reinterpret_cast<T*>(memory);
    __shared__ T x[kMost], rhs[kMost];
    __shared__ signed char held[kMost], wanted[kMost];
    __shared__ int index[kMost];
    __shared__ int m, wrong, last, best, patience;
    __shared__ bool bad;
    const int n = int(a.n), me = threadIdx.x;
    const T *H = a.H + blockIdx.x * a.n * a.n, *g = a.g + blockIdx.x * a.n;
    const T *lower = a.lower + blockIdx.x * a.n, *upper = a.upper + blockIdx.x * a.n;
    const T eps = sizeof(T) == 8 ? T(2.220446049250313e-16) : T(1.1920929e-7);
    T size = T(0);
    for (int i = 0; i < n; ++i) size = max(size, g[i] < T(0) ? -g[i] : g[i]);
    const T tolerance = size * eps * T(16);
    for (int i = me; i < n; i += kThreads)
        held[i] = lower[i] >= T(0) && g[i] > T(0) ? kLower : upper[i] <= T(0) && g[i] < T(0) ? kUpper : kFree;
    if (me == 0) best = n + 1, patience = kPatience, bad = false;
    int rounds = 0;
    for (;;) {
        ++rounds;
        __syncthreads();
        if (me == 0) {
            m = 0;
            for (int i = 0; i < n; ++i)
                if (held[i] == kFree) index[m++] = i;
        }
        for (int i = me; i < n; i += kThreads) x[i] = held[i] == kFree ? T(0) : held[i] == kLower ? lower[i] : upper[i];
        __syncthreads();
        for (int r = me; r < m; r += kThreads) {
            T sum = -g[index[r]];
            for (int j = 0; j < n; ++j) sum -= H[index[r] * n + j] * x[j];
            rhs[r] = sum;
        }
        for (int at = me; at < m * m; at += kThreads) A[at] = H[index[at / m] * n + index[at % m]];
        __syncthreads();
        for (int p = 0; p < m; ++p) {
            if (me == 0) {
                if (!(A[p * m + p] > T(0))) bad = true;
                A[p * m + p] = sqrt(A[p * m + p]);
            }
            __syncthreads();
            if (bad) break;
            const T inverse = T(1) / A[p * m + p];
            for (int j = p + 1 + me; j < m; j += kThreads) A[p * m + j] *= inverse;
            __syncthreads();
            const int side = m - p - 1;
            for (int at = me; at < side * side; at += kThreads) {
                const int i = p + 1 + at / side, j = p + 1 + at % side;
                if (j >= i) A[i * m + j] -= A[p * m + i] * A[p * m + j];
            }
            __syncthreads();
        }
        if (bad) break;
        for (int r = 0; r < m; ++r) {
            if (me == 0) rhs[r] /= A[r * m + r];
            __syncthreads();
            for (int j = r + 1 + me; j < m; j += kThreads) rhs[j] -= A[r * m + j] * rhs[r];
            __syncthreads();
        }
        for (int r = m - 1; r >= 0; --r) {
            if (me == 0) rhs[r] /= A[r * m + r];
            __syncthreads();
            for (int i = me; i < r; i += kThreads) rhs[i] -= A[i * m + r] * rhs[r];
            __syncthreads();
        }
        for (int r = me; r < m; r += kThreads) x[index[r]] = rhs[r];
        __syncthreads();
        for (int i = me; i < n; i += kThreads) {
            T d = T(0);
            if (held[i] != kFree) {
                d = g[i];
                for (int j = 0; j < n; ++j) d += H[i * n + j] * x[j];
            }
            wanted[i] = where(held[i], x[i], d, lower[i], upper[i], tolerance);
        }
        __syncthreads();
        if (me == 0) {
            wrong = 0;
            for (int i = 0; i < n; ++i)
                if (wanted[i] != held[i]) ++wrong, last = i;
            const bool all = wrong < best || patience > 0;
            if (wrong < best) best = wrong, patience = kPatience;
            else --patience;
            if (wrong && rounds < kMaxRounds) {
                if (all)
                    for (int i = 0; i < n; ++i) held[i] = wanted[i];
                else
                    held[last] = wanted[last];
            }
        }
        __syncthreads();
        if (wrong == 0 || rounds == kMaxRounds) break;
    }
    for (int i = me; i < n; i += kThreads)
        a.x[blockIdx.x * a.n + i] = bad ? T(0) : min(max(x[i], lower[i]), upper[i]);
    if (me == 0) a.rounds[blockIdx.x] = bad ? -1 : rounds;
}

}  // namespace

template <typename T>
void solve_normal_equations_forward(const SolveArgs<T>& a, uint64_t stream) {
    if (a.b == 0) return;
    if (a.n > kMost) throw std::invalid_argument("solve_normal_equations: at most 96 unknowns on CUDA");
    const int bytes = int(a.n * a.n * sizeof(T));
    cudaFuncSetAttribute(solve_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    solve_kernel<<<unsigned(a.b), kThreads, bytes, reinterpret_cast<cudaStream_t>(stream)>>>(a);
    check_launch("solve_normal_equations_forward");
}

template void solve_normal_equations_forward<float>(const SolveArgs<float>&, uint64_t);
template void solve_normal_equations_forward<double>(const SolveArgs<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
