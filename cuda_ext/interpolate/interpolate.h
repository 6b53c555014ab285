// Attributes of a triangle's corners at the pixels that see it: out = sum_k b_k attribute(corner_k).
#pragma once
#include "common/hd.h"
#include "common/isa.h"

namespace avatar3d {

template <typename T>
struct InterpolateArgs {
    const T* attributes;      // [b or 1, u, c]
    const int32_t* corners;   // [f, 3] into u
    const int32_t* triangle;  // [b, h, w], -1 for none
    const T* barycentrics;    // [b, h, w, 3]
    int64_t b, height, width, u, c, f;
    bool shared;              // one set of attributes for all images
    T* out;                   // [b, h, w, c]
};

template <typename T>
struct InterpolateGrads {
    const T* grad_out;     // [b, h, w, c]
    T* grad_attributes;    // [b or 1, u, c] zeroed by the caller, or null
    T* grad_barycentrics;  // [b, h, w, 3]
};

template <typename T>
AVATAR3D_HD const T* attributes_of(const InterpolateArgs<T>& a, int64_t image) {
    return a.attributes + (a.shared ? 0 : image * a.u * a.c);
}

// C: number of channels if known when compiled, else 0.
template <int C = 0, typename T>
AVATAR3D_HD void interpolate_pixel(const InterpolateArgs<T>& a, const T* attributes, int64_t i) {
    const int64_t channels = C ? C : a.c;
    T* out = a.out + i * channels;
    const int32_t t = a.triangle[i];
    if (t < 0) {
        for (int64_t c = 0; c < channels; ++c) out[c] = T(0);
        return;
    }
    const int32_t* k = a.corners + int64_t(t) * 3;
    const T* b = a.barycentrics + i * 3;
    const T *A0 = attributes + k[0] * channels, *A1 = attributes + k[1] * channels, *A2 = attributes + k[2] * channels;
    for (int64_t c = 0; c < channels; ++c) out[c] = b[0] * A0[c] + b[1] * A1[c] + b[2] * A2[c];
}

template <int C = 0, typename T>
AVATAR3D_HD void interpolate_barycentrics_grad(const InterpolateArgs<T>& a, const InterpolateGrads<T>& g,
                                               const T* attributes, int64_t i) {
    const int64_t channels = C ? C : a.c;
    T* out = g.grad_barycentrics + i * 3;
    const int32_t t = a.triangle[i];
    for (int k = 0; k < 3; ++k) {
        T sum = T(0);
        if (t >= 0) {
            const T* A = attributes + a.corners[int64_t(t) * 3 + k] * channels;
            for (int64_t c = 0; c < channels; ++c) sum += g.grad_out[i * channels + c] * A[c];
        }
        out[k] = sum;
    }
}

AVATAR3D_DECLARE_CPU(template <typename T> void interpolate_forward(const InterpolateArgs<T>& args, int threads);
                     template <typename T> void interpolate_backward(const InterpolateArgs<T>& args,
                                                                     const InterpolateGrads<T>& grads, int threads);)

namespace cuda {
template <typename T>
void interpolate_forward(const InterpolateArgs<T>& args, uint64_t stream);
template <typename T>
void interpolate_backward(const InterpolateArgs<T>& args, const InterpolateGrads<T>& grads, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
