#include "common/parallel.h"
#include "screen_derivatives/screen_derivatives.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

template <typename T>
void screen_derivatives_forward(const DerivativeArgs<T>& a, int threads) {
    parallel_for(a.b * a.pixels, 4096, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) derivatives_of_pixel(a, i);
    });
}

template void screen_derivatives_forward<float>(const DerivativeArgs<float>&, int);
template void screen_derivatives_forward<double>(const DerivativeArgs<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
