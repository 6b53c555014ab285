#include "common/cuda.h"
#include "solve_chain/solve_chain.h"

namespace avatar3d {
namespace cuda {
namespace {

// One block for each chain; its frames one after another, a frame's rows shared among the threads.
template <typename T>
__global__ void forward_kernel(ChainArgs<T> a) {
    const int64_t item = blockIdx.x, n = a.n, stride = a.stride(), width = 3 * n + 1;
    T* gone = a.window(item);
    for (int64_t i = threadIdx.x; i < 2 * n * stride; i += blockDim.x) gone[i] = T(0);
    __syncthreads();
    for (int64_t f = 0; f < a.t; ++f) {
        T* rows = a.factors(item, f);
        for (int64_t i = threadIdx.x; i < n * width; i += blockDim.x)
            rows[i / width * stride + i % width] = chain_entry(a, gone, item, f, i / width, i % width);
        __syncthreads();
        for (int64_t p = 0; p < n; ++p) {
            T* row = rows + p * stride;
            const T inverse = T(1) / sqrt(row[p]);
            __syncthreads();
            for (int64_t c = p + threadIdx.x; c < width; c += blockDim.x) row[c] *= inverse;
            __syncthreads();
            for (int64_t i = threadIdx.x; i < (n - p - 1) * width; i += blockDim.x) {
                const int64_t r = p + 1 + i / width, c = i % width;
                if (c >= r) rows[r * stride + c] -= row[r] * row[c];
            }
            __syncthreads();
        }
        // the window's later half moves up, so an element is read and written by the thread that owns its new place
        for (int64_t i = threadIdx.x; i < 2 * n * (2 * n + 1); i += blockDim.x) {
            const int64_t r = i / (2 * n + 1), c = i % (2 * n + 1);
            if (c < r) continue;
            T sum = T(0);
            for (int64_t k = 0; k < n; ++k) sum += rows[k * stride + n + r] * rows[k * stride + n + c];
            if (r < n && c < n) sum += gone[(n + r) * stride + n + c];
            if (r < n && c == 2 * n) sum += gone[(n + r) * stride + 2 * n];
            if (r < n) gone[r * stride + c] = sum;
        }
        __syncthreads();  // the upper half of the window is new, the lower half still old
        for (int64_t i = threadIdx.x; i < n * (n + 1); i += blockDim.x) {
            const int64_t r = n + i / (n + 1), c = n + i % (n + 1);
            if (c < r) continue;
            T sum = T(0);
            for (int64_t k = 0; k < n; ++k) sum += rows[k * stride + n + r] * rows[k * stride + n + c];
            gone[r * stride + c] = sum;
        }
        __syncthreads();
    }
    T* x = a.x + item * a.t * n;
    for (int64_t f = a.t - 1; f >= 0; --f) {
        const T* rows = a.factors(item, f);
        T* own = x + f * n;
        const int64_t known = (a.t - f < 3 ? a.t - f : 3) * n;
        for (int64_t r = threadIdx.x; r < n; r += blockDim.x) {
            T sum = rows[r * stride + 3 * n];
            for (int64_t c = n; c < known; ++c) sum -= rows[r * stride + c] * own[c];
            own[r] = sum;
        }
        __syncthreads();
        for (int64_t r = n - 1; r >= 0; --r) {
            const T solved = own[r] / rows[r * stride + r];
            __syncthreads();
            for (int64_t i = threadIdx.x; i <= r; i += blockDim.x)
                own[i] = i == r ? solved : own[i] - rows[i * stride + r] * solved;
            __syncthreads();
        }
    }
}

}  // namespace

template <typename T>
void solve_chain_forward(const ChainArgs<T>& a, uint64_t stream) {
    if (a.b * a.t * a.n == 0) return;
    forward_kernel<<<unsigned(a.b), kBlock, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a);
    check_launch("solve_chain_forward");
}

template void solve_chain_forward<float>(const ChainArgs<float>&, uint64_t);
template void solve_chain_forward<double>(const ChainArgs<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
