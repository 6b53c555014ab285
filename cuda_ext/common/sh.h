// Real spherical harmonics of degree 0 to 3 in the order and sign of 3D Gaussian splatting (Kerbl et al. 2023).
// V is a number, or a vector of numbers of type T.
#pragma once
#include "common/hd.h"

namespace avatar3d {

template <typename T, typename V>
AVATAR3D_HD void sh_basis(int coefficients, V x, V y, V z, V* basis) {
    basis[0] = V{} + T(0.28209479177387814);
    if (coefficients <= 1) return;
    const T c1 = T(0.4886025119029199);
    basis[1] = y * -c1;
    basis[2] = z * c1;
    basis[3] = x * -c1;
    if (coefficients <= 4) return;
    const V xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
    const T c2 = T(1.0925484305920792), c20 = T(0.31539156525252005), c22 = T(0.5462742152960396);
    basis[4] = xy * c2;
    basis[5] = yz * -c2;
    basis[6] = (zz * T(2) - xx - yy) * c20;
    basis[7] = xz * -c2;
    basis[8] = (xx - yy) * c22;
    if (coefficients <= 9) return;
    const T c33 = T(0.5900435899266435), c32 = T(2.890611442640554), c31 = T(0.4570457994644658);
    const T c30 = T(0.3731763325901154), c3 = T(1.445305721320277);
    basis[9] = y * (xx * T(3) - yy) * -c33;
    basis[10] = xy * z * c32;
    basis[11] = y * (zz * T(4) - xx - yy) * -c31;
    basis[12] = z * (zz * T(2) - xx * T(3) - yy * T(3)) * c30;
    basis[13] = x * (zz * T(4) - xx - yy) * -c31;
    basis[14] = z * (xx - yy) * c3;
    basis[15] = x * (xx - yy * T(3)) * -c33;
}

// Gradient of the direction, g[3], from that of the basis, b; basis[i] are taken as polynomials in x, y, z.
template <typename T, typename V>
AVATAR3D_HD void sh_basis_grad(int coefficients, V x, V y, V z, const V* b, V* g) {
    g[0] = g[1] = g[2] = V{};
    if (coefficients <= 1) return;
    const T c1 = T(0.4886025119029199);
    g[0] = b[3] * -c1;
    g[1] = b[1] * -c1;
    g[2] = b[2] * c1;
    if (coefficients <= 4) return;
    const T c2 = T(1.0925484305920792), c20 = T(0.31539156525252005), c22 = T(0.5462742152960396);
    g[0] += (y * b[4] - z * b[7]) * c2 - x * b[6] * (T(2) * c20) + x * b[8] * (T(2) * c22);
    g[1] += (x * b[4] - z * b[5]) * c2 - y * b[6] * (T(2) * c20) - y * b[8] * (T(2) * c22);
    g[2] += (y * b[5] + x * b[7]) * -c2 + z * b[6] * (T(4) * c20);
    if (coefficients <= 9) return;
    const V xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
    const T c33 = T(0.5900435899266435), c32 = T(2.890611442640554), c31 = T(0.4570457994644658);
    const T c30 = T(0.3731763325901154), c3 = T(1.445305721320277);
    g[0] += xy * b[9] * (T(-6) * c33) + yz * b[10] * c32 + xy * b[11] * (T(2) * c31) - xz * b[12] * (T(6) * c30) -
            (zz * T(4) - xx * T(3) - yy) * b[13] * c31 + xz * b[14] * (T(2) * c3) - (xx - yy) * b[15] * (T(3) * c33);
    g[1] += (xx - yy) * b[9] * (T(-3) * c33) + xz * b[10] * c32 - (zz * T(4) - xx - yy * T(3)) * b[11] * c31 -
            yz * b[12] * (T(6) * c30) + xy * b[13] * (T(2) * c31) - yz * b[14] * (T(2) * c3) + xy * b[15] * (T(6) * c33);
    g[2] += xy * b[10] * c32 - yz * b[11] * (T(8) * c31) + (zz * T(2) - xx - yy) * b[12] * (T(3) * c30) -
            xz * b[13] * (T(8) * c31) + (xx - yy) * b[14] * c3;
}

}  // namespace avatar3d
