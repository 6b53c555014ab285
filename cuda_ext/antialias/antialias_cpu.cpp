#include <algorithm>
#include <vector>

#include "antialias/antialias.h"
#include "common/parallel.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

// Crossings of every image in the order of the faces. They are few, so that what follows takes them one by one.
template <typename T>
std::vector<std::vector<Crossing>> find_all(const AntialiasArgs<T>& a, int threads) {
    parallel_for(a.b * a.f, 2048, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) a.facing[i] = facing_of(a, i / a.f, i % a.f);
    });
    const int64_t chunks = std::max<int64_t>(1, std::min<int64_t>(threads * 4, a.f / 512));
    std::vector<std::vector<Crossing>> found(a.b * chunks);
    parallel_for(a.b * chunks, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t job = begin; job < end; ++job) {
            const int64_t image = job / chunks, chunk = job % chunks;
            auto& list = found[job];
            for (int64_t face = a.f * chunk / chunks; face < a.f * (chunk + 1) / chunks; ++face)
                for (int i = 0; i < 3; ++i)
                    each_crossing(a, image, int32_t(face), i, [&](const Crossing& k) { list.push_back(k); });
        }
    });
    std::vector<std::vector<Crossing>> images(a.b);
    for (int64_t image = 0; image < a.b; ++image)
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            const auto& list = found[image * chunks + chunk];
            images[image].insert(images[image].end(), list.begin(), list.end());
        }
    return images;
}

template <typename T>
void copy(const T* from, T* to, int64_t n, int threads) {
    parallel_for(n, 1 << 16, threads, [&](int64_t begin, int64_t end, int) { std::copy(from + begin, from + end, to + begin); });
}

}  // namespace

template <typename T>
void antialias_forward(const AntialiasArgs<T>& a, int threads) {
    const auto images = find_all(a, threads);
    copy(a.image, a.out, a.b * a.height * a.width * a.c, threads);
    parallel_for(a.b, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t image = begin; image < end; ++image) {
            for (const Crossing& k : images[image]) {
                const T *receiver = a.image + k.receiver * a.c, *other = a.image + k.other * a.c;
                for (int64_t c = 0; c < a.c; ++c) a.out[k.receiver * a.c + c] += T(k.weight) * (other[c] - receiver[c]);
            }
        }
    });
}

template <typename T>
void antialias_backward(const AntialiasArgs<T>& a, const AntialiasGrads<T>& g, int threads) {
    const auto images = find_all(a, threads);
    copy(g.grad_out, g.grad_image, a.b * a.height * a.width * a.c, threads);
    parallel_for(a.b, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t image = begin; image < end; ++image) {
            T* sums = g.grad_points + image * a.v * 3;
            for (const Crossing& k : images[image]) {
                const T *receiver = a.image + k.receiver * a.c, *other = a.image + k.other * a.c;
                const T* go = g.grad_out + k.receiver * a.c;
                double grad_weight = 0;
                for (int64_t c = 0; c < a.c; ++c) {
                    grad_weight += double(go[c]) * (double(other[c]) - double(receiver[c]));
                    g.grad_image[k.receiver * a.c + c] -= T(k.weight) * go[c];
                    g.grad_image[k.other * a.c + c] += T(k.weight) * go[c];
                }
                double from[3], to[3];
                crossing_gradient(a.points + image * a.v * 3, k, grad_weight, from, to);
                for (int c = 0; c < 3; ++c) {
                    sums[int64_t(k.from) * 3 + c] += T(from[c]);
                    sums[int64_t(k.to) * 3 + c] += T(to[c]);
                }
            }
        }
    });
}

template void antialias_forward<float>(const AntialiasArgs<float>&, int);
template void antialias_forward<double>(const AntialiasArgs<double>&, int);
template void antialias_backward<float>(const AntialiasArgs<float>&, const AntialiasGrads<float>&, int);
template void antialias_backward<double>(const AntialiasArgs<double>&, const AntialiasGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
