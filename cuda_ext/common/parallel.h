// A persistent pool of threads. The caller works too; one loop runs at a time, nested loops run inline.
#pragma once
#include <cstdint>

namespace avatar3d {

using RangeFn = void (*)(void* context, int64_t begin, int64_t end, int worker);

// Splits [0, n) into chunks of at least `grain` and runs them on up to `threads` threads.
void parallel_ranges(int64_t n, int64_t grain, int threads, RangeFn fn, void* context);

// fn(begin, end, worker): chunks are handed out in order; worker < threads.
template <typename F>
inline void parallel_for(int64_t n, int64_t grain, int threads, F&& fn) {
    auto call = [](void* context, int64_t begin, int64_t end, int worker) {
        (*static_cast<F*>(context))(begin, end, worker);
    };
    parallel_ranges(n, grain, threads, call, const_cast<void*>(static_cast<const void*>(&fn)));
}

}  // namespace avatar3d
