// common/radix.cu without CUB.
#include "common/radix.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace avatar3d {
namespace cuda {

template <typename Key>
void sort_pairs(void* scratch, size_t& bytes, const Key* keys, Key* sorted_keys, const int32_t* values,
                int32_t* sorted_values, int64_t n, int bits, uint64_t) {
    bytes = 64;
    if (!scratch) return;
    const Key mask = bits >= int(8 * sizeof(Key)) ? ~Key(0) : (Key(1) << bits) - 1;
    std::vector<int64_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return (keys[a] & mask) < (keys[b] & mask); });
    for (int64_t i = 0; i < n; ++i) sorted_keys[i] = keys[order[i]], sorted_values[i] = values[order[i]];
}

void inclusive_sums(void* scratch, size_t& bytes, const int64_t* values, int64_t* sums, int64_t n, uint64_t) {
    bytes = 64;
    if (scratch) std::partial_sum(values, values + n, sums);
}

template void sort_pairs<uint32_t>(void*, size_t&, const uint32_t*, uint32_t*, const int32_t*, int32_t*, int64_t, int, uint64_t);
template void sort_pairs<uint64_t>(void*, size_t&, const uint64_t*, uint64_t*, const int32_t*, int32_t*, int64_t, int, uint64_t);

}  // namespace cuda
}  // namespace avatar3d
