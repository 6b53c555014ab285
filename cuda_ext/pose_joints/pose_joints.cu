#include "common/cuda.h"
#include "pose_joints/pose_joints.h"

namespace avatar3d {
namespace cuda {
namespace {

template <typename T>
__global__ void forward_kernel(PoseArgs<T> a) {
    const int64_t b = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (b < a.b) pose_chain(a, b);
}

template <typename T>
__global__ void backward_kernel(PoseArgs<T> a, PoseGrads<T> g) {
    const int64_t b = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (b < a.b) pose_chain_grad(a, g, b);
}

}  // namespace

template <typename T>
void pose_joints_forward(const PoseArgs<T>& a, uint64_t stream) {
    if (a.b * a.j == 0) return;
    forward_kernel<<<blocks_for(a.b, 64), 64, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a);
    check_launch("pose_joints_forward");
}

template <typename T>
void pose_joints_backward(const PoseArgs<T>& a, const PoseGrads<T>& g, uint64_t stream) {
    if (a.b * a.j == 0) return;
    backward_kernel<<<blocks_for(a.b, 64), 64, 0, reinterpret_cast<cudaStream_t>(stream)>>>(a, g);
    check_launch("pose_joints_backward");
}

template void pose_joints_forward<float>(const PoseArgs<float>&, uint64_t);
template void pose_joints_forward<double>(const PoseArgs<double>&, uint64_t);
template void pose_joints_backward<float>(const PoseArgs<float>&, const PoseGrads<float>&, uint64_t);
template void pose_joints_backward<double>(const PoseArgs<double>&, const PoseGrads<double>&, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
