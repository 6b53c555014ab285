// What every .cu shares: launch sizes and the check after a launch.
#pragma once
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace avatar3d {

constexpr int kBlock = 256;

inline unsigned blocks_for(int64_t n, int block = kBlock) { return static_cast<unsigned>((n + block - 1) / block); }

inline void check_launch(const char* what) {
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

}  // namespace avatar3d
