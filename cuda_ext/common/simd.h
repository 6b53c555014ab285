// One vector of 64 bytes, by the compiler's vector extensions: a zmm register on AVX-512, two ymm on AVX2, four of
// SSE or NEON elsewhere. Include from *_cpu.cpp only, inside no namespace.
#pragma once
#include <cstdint>
#include <cstring>

namespace avatar3d {
namespace AVATAR3D_ISA {

template <typename T>
struct Simd {
    static constexpr int lanes = 64 / sizeof(T);
    typedef T type __attribute__((vector_size(64)));
};
template <typename T>
using Vec = typename Simd<T>::type;

template <typename T>
inline __attribute__((always_inline)) Vec<T> load(const T* p) {
    Vec<T> v;
    std::memcpy(&v, p, sizeof(v));
    return v;
}

template <typename T>
inline __attribute__((always_inline)) void store(T* p, Vec<T> v) {
    std::memcpy(p, &v, sizeof(v));
}

template <typename T>
inline __attribute__((always_inline)) T sum(Vec<T> v) {
    T s = T(0);
    for (int i = 0; i < Simd<T>::lanes; ++i) s += v[i];
    return s;
}

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
