// Half a warp walks the tree for one point: lane i looks at child i of a node, or at triangle i of a leaf.
#include "common/cuda.h"
#include "nearest_on_mesh/nearest_on_mesh.h"

namespace avatar3d {
namespace cuda {
namespace {

template <typename T>
__device__ T infinity() {
    return T(INFINITY);
}

// The least value of the 16 lanes, and the first lane that has it.
template <typename T>
__device__ int least(unsigned mask, T value, T* found) {
    T m = value;
    for (int step = kTreeWidth / 2; step > 0; step /= 2) {
        const T other = __shfl_xor_sync(mask, m, step, kTreeWidth);
        m = other < m ? other : m;
    }
    *found = m;
    const unsigned votes = __ballot_sync(mask, value == m) & mask;
    return votes ? (__ffs(votes) - 1) % kTreeWidth : 0;
}

template <typename T>
__global__ void search_kernel(NearestArgs<T> a) {
    const int64_t query = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / kTreeWidth;
    if (query >= a.b * a.n) return;
    const int lane = threadIdx.x % kTreeWidth;
    const unsigned mask = 0xFFFFu << (threadIdx.x & kTreeWidth);
    const int64_t image = query / a.n;
    const TreeShape shape(a.f);
    const T* boxes = a.tree.boxes + image * shape.nodes * 6 * kTreeWidth;
    const T* leaves = a.tree.leaves + image * shape.leaves * kFaceNumbers * kTreeWidth;
    const int32_t* ids = a.tree.ids + image * shape.leaves * kTreeWidth;
    const T* p = a.points + query * 3;
    const T px = p[0], py = p[1], pz = p[2];
    const auto distance_of = [&](int level, int32_t node) {
        const T* box = boxes + int64_t(shape.first[level] + node) * 6 * kTreeWidth + lane;
        return box_distance<T>(px, py, pz, [&](int k) { return box[k * kTreeWidth]; });
    };
    T open[kMostLevels + 1], best = infinity<T>();
    int32_t face = -1, node = 0;
    int level = shape.levels;
    const T finite = px - px + (py - py) + (pz - pz);
    open[level] = finite == T(0) ? distance_of(level, 0) : infinity<T>();
    for (;;) {
        T distance;
        const int child = least(mask, open[level], &distance);
        if (!(distance <= best) || distance == infinity<T>()) {
            if (level == shape.levels) break;
            node /= kTreeWidth;
            ++level;
            continue;
        }
        if (lane == child) open[level] = infinity<T>();
        const int32_t next = node * kTreeWidth + child;
        if (level > 1) {
            node = next;
            --level;
            open[level] = distance_of(level, node);
            continue;
        }
        const T* numbers = leaves + int64_t(next) * kFaceNumbers * kTreeWidth + lane;
        T own = face_distance<T>(px, py, pz, [&](int k) { return numbers[k * kTreeWidth]; });
        own = own == own ? own : infinity<T>();
        const int winner = least(mask, own, &distance);
        const int32_t id = ids[int64_t(next) * kTreeWidth + winner];
        if (id >= 0 && (distance < best || (distance == best && id < face))) {
            best = distance;
            face = id;
        }
    }
    if (lane == 0) write_nearest(a, image, query % a.n, face);
}

}  // namespace

template <typename T>
void nearest_on_mesh_forward(const NearestArgs<T>& a, uint64_t stream) {
    if (a.b * a.n == 0) return;
    search_kernel<<<blocks_for(a.b * a.n * kTreeWidth, 128), 128, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a);
    check_launch("nearest_on_mesh_forward");
}

template void nearest_on_mesh_forward<float>(const NearestArgs<float>&, uint64_t);
template void nearest_on_mesh_forward<double>(const NearestArgs<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
