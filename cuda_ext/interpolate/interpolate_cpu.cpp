#include "common/channels.h"
#include "common/parallel.h"
#include "common/scatter.h"
#include "interpolate/interpolate.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

template <typename T>
void interpolate_forward(const InterpolateArgs<T>& a, int threads) {
    with_channels(a.c, [&](auto count) {
        parallel_for(a.b * a.height, 16, threads, [&](int64_t begin, int64_t end, int) {
            const InterpolateArgs<T> args = a;  // a copy that no store can change
            for (int64_t row = begin; row < end; ++row) {
                const T* attributes = attributes_of(args, row / args.height);
                for (int64_t i = row * args.width; i < (row + 1) * args.width; ++i)
                    interpolate_pixel<decltype(count)::value>(args, attributes, i);
            }
        });
    });
}

template <typename T>
void interpolate_backward(const InterpolateArgs<T>& a, const InterpolateGrads<T>& g, int threads) {
    with_channels(a.c, [&](auto count) {
        constexpr int C = decltype(count)::value;
        parallel_for(a.b * a.height, 16, threads, [&](int64_t begin, int64_t end, int) {
            const InterpolateArgs<T> args = a;
            for (int64_t row = begin; row < end; ++row) {
                const T* attributes = attributes_of(args, row / args.height);
                for (int64_t i = row * args.width; i < (row + 1) * args.width; ++i)
                    interpolate_barycentrics_grad<C>(args, g, attributes, i);
            }
        });
        if (!g.grad_attributes) return;
        // Shared attributes: all images are one tall image.
        const int64_t images = a.shared ? 1 : a.b, height = a.shared ? a.b * a.height : a.height;
        const int64_t channels = C ? C : a.c;
        scatter_bands(images, height, a.u * a.c, threads, g.grad_attributes, [&](int64_t image, int64_t y0, int64_t y1, T* sums) {
            T run[3][C ? C : 1] = {};  // what a run of pixels that see one triangle adds to its corners
            int32_t id = -1;
            const auto flush = [&] {
                if (C == 0 || id < 0) return;
                for (int k = 0; k < 3; ++k)
                    for (int64_t c = 0; c < C; ++c) {
                        sums[a.corners[int64_t(id) * 3 + k] * channels + c] += run[k][c];
                        run[k][c] = T(0);
                    }
            };
            for (int64_t i = (image * height + y0) * a.width; i < (image * height + y1) * a.width; ++i) {
                if (a.triangle[i] != id) {
                    flush();
                    id = a.triangle[i];
                }
                if (id < 0) continue;
                const T* go = g.grad_out + i * channels;
                for (int k = 0; k < 3; ++k) {
                    const T b = a.barycentrics[i * 3 + k];
                    T* sum = C ? run[k] : sums + a.corners[int64_t(id) * 3 + k] * channels;
                    for (int64_t c = 0; c < channels; ++c) sum[c] += b * go[c];
                }
            }
            flush();
        });
    });
}

template void interpolate_forward<float>(const InterpolateArgs<float>&, int);
template void interpolate_forward<double>(const InterpolateArgs<double>&, int);
template void interpolate_backward<float>(const InterpolateArgs<float>&, const InterpolateGrads<float>&, int);
template void interpolate_backward<double>(const InterpolateArgs<double>&, const InterpolateGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
