// Stable radix sort and prefix sums on CUDA (CUB, of the toolkit). Scratch is asked for with `scratch` = nullptr.
#pragma once
#include <cstddef>
#include <cstdint>

namespace avatar3d {
namespace cuda {

// Sorts pairs by the low `bits` bits of their keys; equal keys keep their order. Key: uint32_t or uint64_t.
template <typename Key>
void sort_pairs(void* scratch, size_t& bytes, const Key* keys, Key* sorted_keys, const int32_t* values,
                int32_t* sorted_values, int64_t n, int bits, uint64_t stream);

// sums[i] = values[0] + ... + values[i]; the two may be the same array.
void inclusive_sums(void* scratch, size_t& bytes, const int64_t* values, int64_t* sums, int64_t n, uint64_t stream);

}  // namespace cuda
}  // namespace avatar3d
