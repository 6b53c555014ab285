// Sums from image rows into a small array (vertices, say), without atomics: rows are cut into bands, each band sums
// into memory of its own, and the bands are added in order. The bands depend on the sizes alone, so the result does
// not depend on the number of threads.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>

#include "common/parallel.h"

namespace avatar3d {

// fn(image, y0, y1, sums) adds to sums [size]; out [images, size] is zero at the start.
template <typename T, typename F>
inline void scatter_bands(int64_t images, int64_t height, int64_t size, int threads, T* out, F&& fn) {
    const int64_t bands = std::max<int64_t>(1, std::min<int64_t>(images >= 8 ? 1 : 8 / std::max<int64_t>(images, 1), height / 32));
    std::unique_ptr<T[]> rest(new T[std::max<int64_t>(1, images * (bands - 1) * size)]);
    parallel_for(images * bands, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t image = i / bands, band = i % bands;
            T* sums = out + image * size;
            if (band > 0) {
                sums = rest.get() + (image * (bands - 1) + band - 1) * size;
                std::fill(sums, sums + size, T(0));
            }
            fn(image, height * band / bands, height * (band + 1) / bands, sums);
        }
    });
    if (bands == 1) return;
    parallel_for(images * size, 4096, threads, [&](int64_t begin, int64_t end, int) {
        while (begin < end) {
            const int64_t image = begin / size, stop = std::min(end, (image + 1) * size), offset = begin - image * size;
            for (int64_t band = 0; band + 1 < bands; ++band) {
                const T* sums = rest.get() + (image * (bands - 1) + band) * size + offset;
                for (int64_t i = begin; i < stop; ++i) out[i] += sums[i - begin];
            }
            begin = stop;
        }
    });
}

}  // namespace avatar3d
