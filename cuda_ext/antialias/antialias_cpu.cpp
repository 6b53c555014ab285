#include <algorithm>
#include <vector>

#include "antialias/antialias.h"
#include "common/parallel.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

// Crossings in the order of the faces, in lists, so many for each image. They are few, so that what follows takes them
// one by one.
struct Crossings {
    int64_t lists = 0;
    std::vector<std::vector<Crossing>> found;

    template <typename F>
    void each(int64_t image, F&& visit) const {
        for (int64_t i = image * lists; i < (image + 1) * lists; ++i)
            for (const Crossing& k : found[i]) visit(k);
    }
};

template <typename T>
Crossings find_all(const AntialiasArgs<T>& a, int threads) {
    for (int64_t image = 0; image < a.b; ++image) {
        parallel_for(a.f, 2048, threads, [&](int64_t begin, int64_t end, int) {
            const AntialiasArgs<T> args = a;  // a copy that no store can change
            for (int64_t face = begin; face < end; ++face) args.facing[image * args.f + face] = facing_of(args, image, face);
        });
    }
    const int64_t chunks = std::max<int64_t>(1, std::min<int64_t>(threads == 1 ? 1 : threads * 4, a.f / 512));
    Crossings result{chunks, std::vector<std::vector<Crossing>>(a.b * chunks)};
    parallel_for(a.b * chunks, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t job = begin; job < end; ++job) {
            const int64_t image = job / chunks, chunk = job % chunks;
            auto& list = result.found[job];
            list.reserve(256);
            for (int64_t face = a.f * chunk / chunks; face < a.f * (chunk + 1) / chunks; ++face)
                for (int i = 0; i < 3; ++i)
                    each_crossing(a, image, int32_t(face), i, [&](const Crossing& k) { list.push_back(k); });
        }
    });
    return result;
}

template <typename T>
void copy(const T* from, T* to, int64_t n, int threads) {
    parallel_for(n, 1 << 16, threads, [&](int64_t begin, int64_t end, int) { std::copy(from + begin, from + end, to + begin); });
}

}  // namespace

template <typename T>
void antialias_forward(const AntialiasArgs<T>& a, int threads) {
    const Crossings crossings = find_all(a, threads);
    copy(a.image, a.out, a.b * a.height * a.width * a.c, threads);
    parallel_for(a.b, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t image = begin; image < end; ++image) {
            crossings.each(image, [&](const Crossing& k) {
                const T *receiver = a.image + k.receiver * a.c, *other = a.image + k.other * a.c;
                for (int64_t c = 0; c < a.c; ++c) a.out[k.receiver * a.c + c] += T(k.weight) * (other[c] - receiver[c]);
            });
        }
    });
}

template <typename T>
void antialias_backward(const AntialiasArgs<T>& a, const AntialiasGrads<T>& g, int threads) {
    const Crossings crossings = find_all(a, threads);
    copy(g.grad_out, g.grad_image, a.b * a.height * a.width * a.c, threads);
    parallel_for(a.b, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t image = begin; image < end; ++image) {
            T* sums = g.grad_points + image * a.v * 3;
            crossings.each(image, [&](const Crossing& k) {
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
            });
        }
    });
}

template void antialias_forward<float>(const AntialiasArgs<float>&, int);
template void antialias_forward<double>(const AntialiasArgs<double>&, int);
template void antialias_backward<float>(const AntialiasArgs<float>&, const AntialiasGrads<float>&, int);
template void antialias_backward<double>(const AntialiasArgs<double>&, const AntialiasGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
