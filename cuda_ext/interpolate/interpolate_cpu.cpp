#include "common/parallel.h"
#include "common/scatter.h"
#include "interpolate/interpolate.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

template <typename T>
void interpolate_forward(const InterpolateArgs<T>& a, int threads) {
    const int64_t pixels = a.height * a.width;
    parallel_for(a.b * a.height, 16, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            const T* attributes = attributes_of(a, row * a.width / pixels);
            for (int64_t i = row * a.width; i < (row + 1) * a.width; ++i) interpolate_pixel(a, attributes, i);
        }
    });
}

template <typename T>
void interpolate_backward(const InterpolateArgs<T>& a, const InterpolateGrads<T>& g, int threads) {
    const int64_t pixels = a.height * a.width;
    parallel_for(a.b * a.height, 16, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            const T* attributes = attributes_of(a, row * a.width / pixels);
            for (int64_t i = row * a.width; i < (row + 1) * a.width; ++i)
                interpolate_barycentrics_grad(a, g, attributes, i);
        }
    });
    if (!g.grad_attributes) return;
    // Shared attributes: all images are one tall image.
    const int64_t images = a.shared ? 1 : a.b, height = a.shared ? a.b * a.height : a.height;
    scatter_bands(images, height, a.u * a.c, threads, g.grad_attributes, [&](int64_t image, int64_t y0, int64_t y1, T* sums) {
        for (int64_t i = (image * height + y0) * a.width; i < (image * height + y1) * a.width; ++i) {
            if (a.triangle[i] < 0) continue;
            const int32_t* corners = a.corners + int64_t(a.triangle[i]) * 3;
            const T* go = g.grad_out + i * a.c;
            for (int k = 0; k < 3; ++k) {
                const T b = a.barycentrics[i * 3 + k];
                T* sum = sums + corners[k] * a.c;
                for (int64_t c = 0; c < a.c; ++c) sum[c] += b * go[c];
            }
        }
    });
}

template void interpolate_forward<float>(const InterpolateArgs<float>&, int);
template void interpolate_forward<double>(const InterpolateArgs<double>&, int);
template void interpolate_backward<float>(const InterpolateArgs<float>&, const InterpolateGrads<float>&, int);
template void interpolate_backward<double>(const InterpolateArgs<double>&, const InterpolateGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
