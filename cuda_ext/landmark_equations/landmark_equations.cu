// One block per observation and 32 x 32 tile of J^T J; rows of J are made in shared memory, 16 landmarks at a time.
#include "common/cuda.h"
#include "landmark_equations/landmark_equations.h"

namespace avatar3d {
namespace cuda {
namespace {

constexpr int kSide = 32;       // of a tile
constexpr int kLandmarks = 16;  // at a time
constexpr int kThreads = 256;

template <typename T>
__global__ void neutral_kernel(LandmarkArgs<T> a) {
    const int64_t l = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
    if (l < a.l) neutral_landmark(a, l, PlainDot{}, a.scratch + l * 3);
    if (l == a.l) a.scratch[a.l * 3] = scale_of(a, PlainDot{});
}

// Column j of row r of a measurement; column n is its residual.
template <typename T>
__device__ T column(const LandmarkArgs<T>& a, const LandmarkView<T>& v, int64_t l, int r, int64_t j, T scale) {
    const T* d = v.DR + r * 3;
    const int64_t n = a.unknowns();
    if (j > n) return T(0);
    if (j == n) return v.residual[r];
    if (j < a.e) {
        const T* basis = a.expression_basis + l * 3 * a.e + j;
        return scale * (d[0] * basis[0] + d[1] * basis[a.e] + d[2] * basis[2 * a.e]);
    }
    if (j < a.e + 7) {
        T pose[7];
        pose_columns(v, r, pose);
        return pose[j - a.e];
    }
    const int64_t i = j - a.e - 7;
    const T* basis = a.identity_basis + l * 3 * a.k + i;
    const T along = d[0] * v.moved[0] + d[1] * v.moved[1] + d[2] * v.moved[2];
    return d[0] * basis[0] + d[1] * basis[a.k] + d[2] * basis[2 * a.k] + along * a.expression_scale[i];
}

template <typename T>
__global__ void gram_kernel(LandmarkArgs<T> a) {
    const int64_t o = blockIdx.x, first = blockIdx.y * kSide, second = blockIdx.z * kSide;
    if (second < first) return;
    const int64_t n = a.unknowns();
    const T scale = a.scratch[a.l * 3];
    __shared__ LandmarkView<T> views[2][kLandmarks];
    __shared__ T roots[kLandmarks];
    __shared__ T losses[kLandmarks];
    __shared__ T left[2 * kLandmarks][kSide], right[2 * kLandmarks][kSide];
    T sum[4] = {T(0), T(0), T(0), T(0)};
    T cost = T(0);
    const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;  // 32 x 8 threads, each 4 rows of the tile
    for (int64_t start = 0; start < a.rows(); start += kLandmarks) {
        const int count = int(min(int64_t(kLandmarks), a.rows() - start));
        if (threadIdx.x < count) {
            const int i = threadIdx.x;
            const int64_t row = start + i;
            const bool pair = row >= a.l;
            const int64_t p = row - a.l, l = pair ? a.pairs[p * 2] : row;
            const T weight = pair ? a.pair_weights[o * a.p + p] : a.weights[o * a.l + l];
            roots[i] = losses[i] = T(0);
            if (weight > T(0)) {
                view_landmark(a, o, l, a.scratch + l * 3, scale, PlainDot{}, views[0][i]);
                T e0 = views[0][i].residual[0], e1 = views[0][i].residual[1];
                if (pair) {
                    const int64_t m = a.pairs[p * 2 + 1];
                    view_landmark(a, o, m, a.scratch + m * 3, scale, PlainDot{}, views[1][i]);
                    e0 -= views[1][i].residual[0];
                    e1 -= views[1][i].residual[1];
                }
                const T factor = robust(weight * (e0 * e0 + e1 * e1), a.cauchy, &losses[i]);
                roots[i] = sqrt(a.discount * weight * factor);
            }
        }
        __syncthreads();
        for (int at = threadIdx.x; at < count * 2 * kSide * 2; at += kThreads) {
            const int side = at / (count * 2 * kSide), rest = at % (count * 2 * kSide);
            const int i = rest / (2 * kSide), r = (rest / kSide) % 2, c = rest % kSide;
            const int64_t row = start + i, j = (side ? second : first) + c;
            T value = T(0);
            if (roots[i] > T(0)) {
                const bool pair = row >= a.l;
                const int64_t l = pair ? a.pairs[(row - a.l) * 2] : row;
                value = column(a, views[0][i], l, r, j, scale);
                if (pair) value -= column(a, views[1][i], a.pairs[(row - a.l) * 2 + 1], r, j, scale);
                value *= roots[i];
            }
            (side ? right : left)[i * 2 + r][c] = value;
        }
        __syncthreads();
        for (int row = 0; row < count * 2; ++row)
            for (int i = 0; i < 4; ++i) sum[i] += left[row][y * 4 + i] * right[row][x];
        if (threadIdx.x == 0)
            for (int i = 0; i < count; ++i) cost += a.discount * losses[i];
        __syncthreads();
    }
    for (int i = 0; i < 4; ++i) {
        const int64_t r = first + y * 4 + i, c = second + x;
        if (r < n && c < n) a.H[(o * n + r) * n + c] = a.H[(o * n + c) * n + r] = sum[i];
        if (r < n && c == n) a.g[o * n + r] = sum[i];
    }
    if (threadIdx.x == 0 && first == 0 && second == 0) a.cost[o] = cost;
}

}  // namespace

template <typename T>
void landmark_equations_forward(const LandmarkArgs<T>& a, uint64_t stream) {
    if (a.o == 0) return;
    const auto s = reinterpret_cast<cudaStream_t>(stream);
    neutral_kernel<<<blocks_for(a.l + 1), kBlock, 0, s>>>(a);
    const unsigned tiles = blocks_for(a.unknowns() + 1, kSide);
    gram_kernel<<<dim3(unsigned(a.o), tiles, tiles), kThreads, 0, s>>>(a);
    check_launch("landmark_equations_forward");
}

template void landmark_equations_forward<float>(const LandmarkArgs<float>&, uint64_t);
template void landmark_equations_forward<double>(const LandmarkArgs<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
