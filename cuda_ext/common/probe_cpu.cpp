// Chains of multiply-adds in registers, as many as hide the latency of two units.
#include "common/probe.h"

#include "common/parallel.h"
#include "rasterize/lanes.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

void probe_fma(int64_t rounds, int threads, int64_t* done) {
    using L = Lanes<float>;
    using V = typename L::V;
    constexpr int chains = 10;
    parallel_for(threads, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t part = begin; part < end; ++part) {
            V x[chains];
            for (int k = 0; k < chains; ++k) x[k] = L::all(float(k));
            const V a = L::all(0.5f), b = L::all(1.0f);
            for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 10
                for (int k = 0; k < chains; ++k) x[k] = x[k] * a + b;
            }
            for (int k = 1; k < chains; ++k) x[0] += x[k];
            __asm__ volatile("" : : "m"(x[0]));  // or the loop is found to be useless
        }
    });
    *done = rounds * chains * L::count * threads;
}

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
