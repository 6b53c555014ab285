#include "common/channels.h"
#include "common/parallel.h"
#include "sample_texture/sample_texture.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

constexpr int kOwnedRows = 8;

// Texels of one level, of the rows that `part` owns.
template <typename T>
void add_level(const Taps<T>& t, const T* g, int64_t channels, T share, int part, int parts, T* sums) {
    const T weights[4] = {(1 - t.fx) * (1 - t.fy), t.fx * (1 - t.fy), (1 - t.fx) * t.fy, t.fx * t.fy};
    for (int k = 0; k < 4; ++k) {
        if ((k < 2 ? t.y0 : t.y1) / kOwnedRows % parts != part) continue;
        const T w = share * weights[k];
        for (int64_t c = 0; c < channels; ++c) sums[t.index[k] * channels + c] += w * g[c];
    }
}

template <typename T>
const T* texels_of(const TextureArgs<T>& a, int64_t i) {
    return a.shared ? a.texels : a.texels + i / a.pixels * a.texel_count * a.c;
}

}  // namespace

template <typename T>
void sample_texture_forward(const TextureArgs<T>& a, int threads) {
    with_channels(a.c, [&](auto count) {
        parallel_for(a.b * a.pixels, 4096, threads, [&](int64_t begin, int64_t end, int) {
            const TextureArgs<T> args = a;  // a copy that no store can change
            for (int64_t i = begin; i < end; ++i)
                texture_pixel<decltype(count)::value>(args, texels_of(args, i), i);
        });
    });
}

template <typename T>
void sample_texture_backward(const TextureArgs<T>& a, const TextureGrads<T>& g, int threads) {
    with_channels(a.c, [&](auto count) {
        parallel_for(a.b * a.pixels, 4096, threads, [&](int64_t begin, int64_t end, int) {
            const TextureArgs<T> args = a;
            for (int64_t i = begin; i < end; ++i)
                texture_coordinates_grad<decltype(count)::value>(args, g, texels_of(args, i), i);
        });
    });
    if (!g.grad_texels) return;
    // Texel rows are dealt out to parts; every part reads all pixels in order and adds to its own rows only, so the
    // sums have one order whatever the number of threads.
    const int64_t textures = a.shared ? 1 : a.b, pixels = a.shared ? a.b * a.pixels : a.pixels;
    const int parts = threads;
    parallel_for(textures * parts, 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t job = begin; job < end; ++job) {
            const int64_t texture = job / parts;
            const int part = int(job % parts);
            T* sums = g.grad_texels + texture * a.texel_count * a.c;
            for (int64_t i = texture * pixels; i < (texture + 1) * pixels; ++i) {
                const T* go = g.grad_out + i * a.c;
                bool any = false;
                for (int64_t c = 0; c < a.c; ++c) any |= go[c] != T(0);
                if (!any) continue;
                const LevelBlend<T> blend = level_blend(a, i);
                const T *uv = a.uv + i * 2, fine = T(1) - blend.share;
                add_level(taps_of(a.pyramid, blend.fine, uv[0], uv[1]), go, a.c, fine, part, parts, sums);
                if (blend.share != T(0))
                    add_level(taps_of(a.pyramid, blend.coarse, uv[0], uv[1]), go, a.c, blend.share, part, parts, sums);
            }
        }
    });
}

template void sample_texture_forward<float>(const TextureArgs<float>&, int);
template void sample_texture_forward<double>(const TextureArgs<double>&, int);
template void sample_texture_backward<float>(const TextureArgs<float>&, const TextureGrads<float>&, int);
template void sample_texture_backward<double>(const TextureArgs<double>&, const TextureGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
