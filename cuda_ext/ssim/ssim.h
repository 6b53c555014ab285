// Structural similarity of two images (Wang et al. 2004), alone or mixed with the absolute difference. Per window and
// per pixel, shared by C++ and CUDA; both filter separably, rows and columns.
//
// Pixels enter as x - 1/2, zeros beyond the border as -1/2: variances do not change, and lose less to rounding.
// A window knows a = mean(x), b = mean(y), q = mean(x^2 + y^2), ab = mean(x y); its similarity S has the gradient
// (d_a, d_b, d_q, d_ab), and a pixel's gradient is the filtered d_a + 2 x d_q + y d_ab.
#pragma once
#include "common/hd.h"
#include "common/isa.h"

namespace avatar3d {

constexpr int kSsimRadius = 5;
constexpr int kSsimWindow = 2 * kSsimRadius + 1;

// value[i] = sum over pixels and channels of w (l1 |a - b| + ssim S + offset), and scale[i] times its gradient.
template <typename T>
struct SsimArgs {
    const T *a, *b;    // [images, h, w, c]
    const T* weights;  // w [images, h, w]; null for 1
    const T* scale;    // [images]; null for 1
    int64_t images, height, width, channels;
    int64_t margin;    // windows whose centre is nearer to the border do not count
    T l1, ssim, offset;
    T* value;          // [images] or null
    T *grad_a, *grad_b;  // [images, h, w, c] or null
};

// Gaussian of sigma 1.5 over 11 pixels, sum 1.
template <typename T>
AVATAR3D_HD constexpr T ssim_tap(int k) {
    constexpr double taps[kSsimRadius + 1] = {0.00102838008447911, 0.007598758135239185, 0.03600077212843083,
                                              0.10936068950970002, 0.2130055377112537,   0.26601172486179436};
    return T(taps[k <= kSsimRadius ? k : kSsimWindow - 1 - k]);
}

template <typename V>
struct SsimWindow {
    V similarity, d_a, d_b, d_q, d_ab;
};

// T: the scalar; V: T or a vector of it.
template <typename T, typename V>
AVATAR3D_HD SsimWindow<V> ssim_window(V a, V b, V q, V ab) {
    const V mu_a = a + T(0.5), mu_b = b + T(0.5);
    const V n1 = T(2) * mu_a * mu_b + T(1e-4), d1 = mu_a * mu_a + mu_b * mu_b + T(1e-4);
    const V n2 = T(2) * (ab - a * b) + T(9e-4), d2 = q - a * a - b * b + T(9e-4);
    const V inverse = T(1) / (d1 * d2), e = T(2) * inverse;
    const V s = n1 * n2 * inverse;
    SsimWindow<V> w;
    w.similarity = s;
    w.d_a = e * ((mu_b * n2 - b * n1) - s * (mu_a * d2 - a * d1));
    w.d_b = e * ((mu_a * n2 - a * n1) - s * (mu_b * d2 - b * d1));
    w.d_q = -s * d1 * inverse;
    w.d_ab = n1 * e;
    return w;
}

AVATAR3D_DECLARE_CPU(template <typename T> void ssim_forward(const SsimArgs<T>& args, int threads);)

constexpr int kSsimTileX = 32, kSsimTileY = 16;

AVATAR3D_HD int64_t ssim_tiles(int64_t height, int64_t width) {
    return (height + kSsimTileY - 1) / kSsimTileY * ((width + kSsimTileX - 1) / kSsimTileX);
}

// Numbers of scratch on CUDA: a sum per tile, and for gradients four maps of the size of the images.
inline int64_t ssim_scratch(int64_t images, int64_t height, int64_t width, int64_t channels, bool with_grad) {
    return images * channels * (ssim_tiles(height, width) + (with_grad ? 4 * height * width : 0));
}

namespace cuda {
template <typename T>
void ssim_forward(const SsimArgs<T>& args, T* scratch, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
