// Marks functions that both the C++ compiler and nvcc compile.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define AVATAR3D_HD __host__ __device__ __forceinline__
#else
#define AVATAR3D_HD inline __attribute__((always_inline))
#endif
