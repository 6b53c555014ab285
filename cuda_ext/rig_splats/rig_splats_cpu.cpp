// A vector of splats at a time, over a table of the triangles' frames. Gradients of the vertices are summed in bands
// of splats that do not depend on the number of threads.
#include "rig_splats/rig_splats.h"

#include <algorithm>
#include <memory>

#include "common/parallel.h"
#include "common/rows.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

template <typename T>
struct Rig {
    using L = Lanes<T>;
    using V = typename L::V;
    using M = typename L::M;
    static constexpr int lanes = L::count, kFrame = sizeof(FaceFrame<T>) / sizeof(T);
    static_assert(kFrame == 16, "a frame is 16 numbers");

    const RigSplatsArgs<T>& a;
    std::unique_ptr<T[]> frames;  // [b, f, 16]

    Rig(const RigSplatsArgs<T>& args, int threads) : a(args), frames(new T[std::max<int64_t>(1, args.b * args.f * kFrame)]) {
        const int64_t blocks = (a.f + lanes - 1) / lanes;
        parallel_for(a.b * blocks, 64, threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) {
                const int64_t image = i / blocks, first = i % blocks * lanes;
                const int count = int(std::min<int64_t>(lanes, a.f - first));
                V corners[9];
                load_corners(image, a.faces + first * 3, count, corners);
                FaceFrame<V> frame;
                face_frame<T>(corners, corners + 3, corners + 6, frame);
                store_rows<kFrame>(reinterpret_cast<const V*>(&frame), count, frames.get() + (image * a.f + first) * kFrame);
            }
        });
    }

    void load_corners(int64_t image, const int32_t* corners, int count, V* out) const {
        int32_t index[3][lanes] = {};
        for (int l = 0; l < count; ++l)
            for (int c = 0; c < 3; ++c) index[c][l] = corners[l * 3 + c];
        for (int c = 0; c < 3; ++c) gather_rows<3>(a.vertices + image * a.v * 3, index[c], count, out + c * 3);
    }

    struct Splats {
        int64_t first;
        int count;
        RiggedSplat<V> s;
        int32_t corners[lanes * 3];
    };

    Splats load(int64_t first) const {
        Splats p;
        p.first = first;
        p.count = int(std::min<int64_t>(lanes, a.n - first));
        V quat[4];
        load_rows<3>(a.barycentrics + first * 3, p.count, p.s.barycentrics);
        load_rows<3>(a.offsets + first * 3, p.count, p.s.offset);
        load_rows<3>(a.scales + first * 3, p.count, p.s.scale);
        load_rows<4>(a.quats + first * 4, p.count, quat);
        normalise_quat<T>(quat, p.s);
        for (int l = 0; l < p.count; ++l)
            for (int c = 0; c < 3; ++c) p.corners[l * 3 + c] = a.faces[int64_t(a.face[first + l]) * 3 + c];
        return p;
    }

    void frame_of(const Splats& p, int64_t image, FaceFrame<V>& frame, V* corners) const {
        gather_rows<kFrame>(frames.get() + image * a.f * kFrame, a.face + p.first, p.count, reinterpret_cast<V*>(&frame));
        load_corners(image, p.corners, p.count, corners);
    }
};

}  // namespace

template <typename T>
void rig_splats_forward(const RigSplatsArgs<T>& a, int threads) {
    using V = typename Rig<T>::V;
    constexpr int lanes = Rig<T>::lanes;
    const Rig<T> rig(a, threads);
    parallel_for((a.n + lanes - 1) / lanes, 64, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const auto p = rig.load(i * lanes);
            for (int64_t image = 0; image < a.b; ++image) {
                const int64_t at = image * a.n + p.first;
                FaceFrame<V> frame;
                V corners[9], mean[3], quat[4], scale[3], turned[3];
                rig.frame_of(p, image, frame, corners);
                rig_splat(frame, corners, p.s, mean, quat, scale, turned);
                store_rows<3>(mean, p.count, a.out_means + at * 3);
                store_rows<4>(quat, p.count, a.out_quats + at * 4);
                store_rows<3>(scale, p.count, a.out_scales + at * 3);
            }
        }
    });
}

template <bool WithVertices, typename T>
static void backward(const RigSplatsArgs<T>& a, const RigSplatsGrads<T>& g, int threads) {
    using V = typename Rig<T>::V;
    using M = typename Rig<T>::M;
    constexpr int lanes = Rig<T>::lanes;
    const Rig<T> rig(a, threads);
    const int64_t blocks = (a.n + lanes - 1) / lanes, size = a.b * a.v * 3;
    const int64_t bands = std::max<int64_t>(1, std::min<int64_t>(64 / std::max<int64_t>(a.b, 1), std::min<int64_t>(8, blocks / 64)));
    std::unique_ptr<T[]> rest(new T[WithVertices ? std::max<int64_t>(1, (bands - 1) * size) : 1]);
    parallel_for(bands, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t band = begin; band < end; ++band) {
            T* sums = band == 0 ? g.vertices : rest.get() + (band - 1) * size;
            if (WithVertices) std::fill(sums, sums + size, T(0));
            for (int64_t i = blocks * band / bands; i < blocks * (band + 1) / bands; ++i) {
                const auto p = rig.load(i * lanes);
                RiggedSplatGrads<V> out{};
                for (int64_t image = 0; image < a.b; ++image) {
                    const int64_t at = image * a.n + p.first;
                    FaceFrame<V> frame;
                    V corners[9], mean[3], quat[4], scale[3], turned[3], g_mean[3], g_quat[4], g_scale[3], vertices[9];
                    rig.frame_of(p, image, frame, corners);
                    rig_splat(frame, corners, p.s, mean, quat, scale, turned);
                    load_rows<3>(g.means + at * 3, p.count, g_mean);
                    load_rows<4>(g.quats_out + at * 4, p.count, g_quat);
                    load_rows<3>(g.scales_out + at * 3, p.count, g_scale);
                    RiggedSplatGrads<V> one{};
                    rig_splat_grad<WithVertices, T>(frame, corners, p.s, quat, turned, g_mean, g_quat, g_scale, one, vertices);
                    // A splat that is not finite gets no gradient, and gives none.
                    const V sum = mean[0] + mean[1] + mean[2] + quat[0] + quat[1] + quat[2] + quat[3] + scale[0] + scale[1] + scale[2];
                    const M finite = sum - sum == V{};
                    V* to = reinterpret_cast<V*>(&out);
                    const V* from = reinterpret_cast<const V*>(&one);
                    for (size_t k = 0; k < sizeof(out) / sizeof(V); ++k) to[k] += finite ? from[k] : V{};
                    if constexpr (WithVertices) {
                        alignas(64) T rows[9][lanes];
                        for (int k = 0; k < 9; ++k) Lanes<T>::store(rows[k], finite ? vertices[k] : V{});
                        T* image_sums = sums + image * a.v * 3;
                        for (int l = 0; l < p.count; ++l)
                            for (int c = 0; c < 3; ++c) {
                                T* vertex = image_sums + int64_t(p.corners[l * 3 + c]) * 3;
                                for (int k = 0; k < 3; ++k) vertex[k] += rows[c * 3 + k][l];
                            }
                    }
                }
                V quat[4];
                normalise_quat_grad(p.s, out.q, quat);
                store_rows<3>(out.barycentrics, p.count, g.barycentrics + p.first * 3);
                store_rows<3>(out.offset, p.count, g.offsets + p.first * 3);
                store_rows<4>(quat, p.count, g.quats + p.first * 4);
                store_rows<3>(out.scale, p.count, g.scales + p.first * 3);
            }
        }
    });
    if (!WithVertices || bands == 1) return;
    parallel_for(size, 4096, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t band = 0; band + 1 < bands; ++band) {
            const T* sums = rest.get() + band * size;
            for (int64_t i = begin; i < end; ++i) g.vertices[i] += sums[i];
        }
    });
}

template <typename T>
void rig_splats_backward(const RigSplatsArgs<T>& a, const RigSplatsGrads<T>& g, int threads) {
    if (g.vertices) {
        backward<true>(a, g, threads);
    } else {
        backward<false>(a, g, threads);
    }
}

template void rig_splats_forward<float>(const RigSplatsArgs<float>&, int);
template void rig_splats_forward<double>(const RigSplatsArgs<double>&, int);
template void rig_splats_backward<float>(const RigSplatsArgs<float>&, const RigSplatsGrads<float>&, int);
template void rig_splats_backward<double>(const RigSplatsArgs<double>&, const RigSplatsGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
