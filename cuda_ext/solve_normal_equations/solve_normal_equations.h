// min 1/2 x' H x + g' x  with  lower <= x <= upper, for many small systems, by block principal pivoting:
// every coefficient is free, or held at a bound; all that are on the wrong side change at once, and where that does
// not get on, only the last one does, which ends always (Judice and Pires 1994; Murty 1974). H is positive definite.
#pragma once
#include "common/hd.h"
#include "common/isa.h"

namespace avatar3d {

template <typename T>
struct SolveArgs {
    const T* H;      // [b, n, n]; the lower triangle is read
    const T* g;      // [b, n]
    const T* lower;  // [b, n], may be -inf
    const T* upper;  // [b, n], may be inf
    int64_t b, n;
    T* x;            // [b, n]
    int64_t* rounds; // [b] factorisations that it took; -1 where H is not positive definite (x is then 0)
};

enum Held : signed char { kFree = 0, kLower = 1, kUpper = 2 };

constexpr int kPatience = 3;      // rounds without fewer coefficients on the wrong side before single steps
constexpr int kMaxRounds = 200;

// Where a coefficient belongs, from its value (if free) or its slope d cost / d x (if held).
template <typename T>
AVATAR3D_HD signed char where(signed char held, T value, T slope, T lower, T upper, T tolerance) {
    if (held == kFree) return value < lower ? kLower : value > upper ? kUpper : kFree;
    if (held == kLower) return slope < -tolerance ? kFree : kLower;
    return slope > tolerance ? kFree : kUpper;
}

AVATAR3D_DECLARE_CPU(template <typename T> void solve_normal_equations_forward(const SolveArgs<T>& args, int threads);)

namespace cuda {
template <typename T>
void solve_normal_equations_forward(const SolveArgs<T>& args, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
