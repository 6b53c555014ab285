// Functions of a number, or of a vector of numbers lane by lane.
#pragma once
#include <cmath>
#include <type_traits>

#include "common/hd.h"

namespace avatar3d {

template <typename V>
AVATAR3D_HD V square_root(V v) {
    if constexpr (std::is_same<V, float>::value) {
        return sqrtf(v);
    } else if constexpr (std::is_same<V, double>::value) {
        return sqrt(v);
    } else {
        V r;
        for (unsigned l = 0; l < sizeof(V) / sizeof(v[0]); ++l) r[l] = std::sqrt(v[l]);
        return r;
    }
}

// 1 / |q| of a quaternion, or 0 for one without direction.
template <typename T, typename V>
AVATAR3D_HD V inverse_length(const V* q) {
    const V squared = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
    const V zero = V{}, one = zero + T(1);
    const auto usable = (squared > zero + T(1e-24)) & (squared < zero + T(1e24));
    return usable ? one / square_root(usable ? squared : one) : zero;
}

}  // namespace avatar3d
