#include "common/radix.h"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "common/cuda.h"

namespace avatar3d {
namespace cuda {
namespace {

void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

}  // namespace

template <typename Key>
void sort_pairs(void* scratch, size_t& bytes, const Key* keys, Key* sorted_keys, const int32_t* values,
                int32_t* sorted_values, int64_t n, int bits, uint64_t stream) {
    check(cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, sorted_keys, values, sorted_values, int(n), 0, bits,
                                          reinterpret_cast<cudaStream_t>(stream)),
          "sort_pairs");
}

void inclusive_sums(void* scratch, size_t& bytes, const int64_t* values, int64_t* sums, int64_t n, uint64_t stream) {
    check(cub::DeviceScan::InclusiveSum(scratch, bytes, values, sums, int(n), reinterpret_cast<cudaStream_t>(stream)),
          "inclusive_sums");
}

template void sort_pairs<uint32_t>(void*, size_t&, const uint32_t*, uint32_t*, const int32_t*, int32_t*, int64_t, int, uint64_t);
template void sort_pairs<uint64_t>(void*, size_t&, const uint64_t*, uint64_t*, const int32_t*, int32_t*, int64_t, int, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
