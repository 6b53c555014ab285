// Symmetric systems of frames in a row, each coupled to two neighbours on both sides by diagonal blocks: block Cholesky
// factorisation along time. What elimination takes from the two frames that follow is a window of 2 n rows.
#pragma once
#include "common/hd.h"
#include "common/isa.h"

namespace avatar3d {

template <typename T>
struct ChainArgs {
    const T* blocks;  // [b, t, n, n]
    const T* first;   // [b, t, n] coupling to the next frame
    const T* second;  // [b, t, n] coupling to the next but one
    const T* rhs;     // [b, t, n]
    int64_t b, t, n;
    T* scratch;  // [b, rows, stride]: the factors, then CUDA's window
    T* x;        // [b, t, n]

    // A row: the frame's own block, couplings to the next two frames, right side; padded for whole vectors.
    AVATAR3D_HD int64_t stride() const { return (3 * n + 1 + 15) / 16 * 16 + 32; }
    AVATAR3D_HD int64_t rows() const { return t * n + 2 * n + 8; }
    AVATAR3D_HD T* factors(int64_t item, int64_t frame) const { return scratch + (item * rows() + frame * n) * stride(); }
    AVATAR3D_HD T* window(int64_t item) const { return factors(item, t); }
};

// Element of a frame's rows before it is eliminated; `window` is what the frames before have taken.
template <typename T>
AVATAR3D_HD T chain_entry(const ChainArgs<T>& a, const T* window, int64_t item, int64_t frame, int64_t r, int64_t c) {
    const int64_t n = a.n, i = (item * a.t + frame) * n + r;
    const T* gone = window + r * a.stride();
    if (c < n) return a.blocks[i * n + c] - gone[c];
    if (c < 2 * n) return (c - n == r ? a.first[i] : T(0)) - gone[c];
    if (c < 3 * n) return c - 2 * n == r ? a.second[i] : T(0);
    return a.rhs[i] - gone[2 * n];
}

AVATAR3D_DECLARE_CPU(template <typename T> void solve_chain_forward(const ChainArgs<T>& args, int threads);)

namespace cuda {
template <typename T>
void solve_chain_forward(const ChainArgs<T>& args, uint64_t stream);
}  // namespace cuda

}  // namespace avatar3d
