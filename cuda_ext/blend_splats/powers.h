// Powers and logarithms of sixteen numbers. Included by blend_splats_cpu.cpp alone, once for each instruction set.
#pragma once
#include "blend_splats/blend_splats.h"
#include "common/pack.h"

namespace avatar3d {
namespace AVATAR3D_ISA {

// 256^a for -1 <= a <= 0 with a relative error under 2.7e-6 (a polynomial of 7.5e-8 and its roundings, squared three
// times); any value above 1 for a > 0, where alpha is cut anyway; anything at all for a < -1, where nothing is kept.
AVATAR3D_INLINE Pack<float> power256(const Pack<float>& a) {
    using V = Pack<float>;
    const V aa = a * a;
    const V high = multiply_add(a, V(0.0009387883195184243), V(0.009188611833518531));
    const V middle = multiply_add(a, V(0.05527972284774304), V(0.2401721894461211));
    const V low = multiply_add(a, V(0.6931422526456794), V(0.9999999250672573));
    V p = multiply_add(aa, multiply_add(aa, high, middle), low);
    p = p * p;
    p = p * p;
    return p * p;
}
AVATAR3D_INLINE Pack<double> power256(const Pack<double>& a) {
    Pack<double> c;
    for (int i = 0; i < c.parts; ++i)
        for (int l = 0; l < c.lanes; ++l) c.v[i][l] = std::exp2(8.0 * a.v[i][l]);
    return c;
}

// log256 of positive numbers, to 1e-7.
AVATAR3D_INLINE Pack<float> log256(const Pack<float>& a) {
    alignas(64) float x[kPack], out[kPack];
    a.store(x);
    for (int i = 0; i < kPack; ++i) {
        int32_t bits;
        std::memcpy(&bits, &x[i], 4);
        const int32_t exponent = (bits - 0x3F3504F3) >> 23;  // the mantissa that is left lies in sqrt(1/2)..sqrt(2)
        bits -= exponent * (1 << 23);
        float m;
        std::memcpy(&m, &bits, 4);
        const float z = (m - 1.0f) / (m + 1.0f), zz = z * z;
        const float series = z * (1.0f + zz * (0.33333333f + zz * (0.2f + zz * (0.14285714f + zz * 0.11111111f))));
        out[i] = 0.125f * (float(exponent) + 2.88539008f * series);
    }
    return Pack<float>::load(out);
}
AVATAR3D_INLINE Pack<double> log256(const Pack<double>& a) {
    Pack<double> c;
    for (int i = 0; i < c.parts; ++i)
        for (int l = 0; l < c.lanes; ++l) c.v[i][l] = 0.125 * std::log2(a.v[i][l]);
    return c;
}

template <typename T>
AVATAR3D_INLINE Pack<T> determinant(const Pack<T>& a, const Pack<T>& b, const Pack<T>& c) {
    alignas(64) T u[kPack], v[kPack], w[kPack];
    a.store(u);
    b.store(v);
    c.store(w);
    for (int i = 0; i < kPack; ++i) u[i] = T(double(u[i]) * double(w[i]) - double(v[i]) * double(v[i]));
    return Pack<T>::load(u);
}

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
