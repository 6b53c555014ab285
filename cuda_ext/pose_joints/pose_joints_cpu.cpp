#include "common/parallel.h"
#include "pose_joints/pose_joints.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

constexpr int64_t kItems = 256;  // of the batch, to a thread

template <typename T>
void pose_joints_forward(const PoseArgs<T>& a, int threads) {
    parallel_for(a.b, kItems, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t b = begin; b < end; ++b) pose_chain(a, b);
    });
}

template <typename T>
void pose_joints_backward(const PoseArgs<T>& a, const PoseGrads<T>& g, int threads) {
    parallel_for(a.b, kItems, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t b = begin; b < end; ++b) pose_chain_grad(a, g, b);
    });
}

template void pose_joints_forward<float>(const PoseArgs<float>&, int);
template void pose_joints_forward<double>(const PoseArgs<double>&, int);
template void pose_joints_backward<float>(const PoseArgs<float>&, const PoseGrads<float>&, int);
template void pose_joints_backward<double>(const PoseArgs<double>&, const PoseGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
