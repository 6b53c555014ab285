// A vector of splats at a time: attributes are transposed as they are read, the maths is that of project_splats.h.
#include "project_splats/project_splats.h"

#include <algorithm>
#include <memory>

#include "common/parallel.h"
#include "common/rows.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

template <typename T>
struct Block {
    using L = Lanes<T>;
    using V = typename L::V;
    using M = typename L::M;
    static constexpr int lanes = L::count;

    const ProjectArgs<T>& a;
    int64_t first;
    int count;

    template <int C>
    void load(const T* from, V* to) const {
        load_rows<C>(from, count, to);
    }
    template <int C>
    void store(const V* from, T* to) const {
        store_rows<C>(from, count, to);
    }

    Splat<V> splat() const {
        Splat<V> s;
        V quat[4];
        load<3>(a.means + first * 3, s.mean);
        load<4>(a.quats + first * 4, quat);
        load<3>(a.scales + first * 3, s.scale);
        load<1>(a.opacities + first, &s.opacity);
        // A splat that is not finite becomes one of opacity 0, so that nothing of it reaches the gradients.
        const V zero = {};
        const V sum = s.mean[0] + s.mean[1] + s.mean[2] + s.scale[0] + s.scale[1] + s.scale[2] + s.opacity;
        const M finite = sum - sum == zero;
        for (int i = 0; i < 3; ++i) s.mean[i] = finite ? s.mean[i] : zero, s.scale[i] = finite ? s.scale[i] : zero;
        s.opacity = finite ? s.opacity : zero;
        orient_splat<T>(quat, s);
        return s;
    }

    // Colours before they are clamped at 0.
    void colors(const V* basis, V* out) const {
        alignas(64) T share[16][lanes], sums[3][lanes] = {};
        const int k = a.coefficients;
        for (int i = 0; i < k; ++i) L::store(share[i], basis[i]);
        for (int l = 0; l < count; ++l) {
            const T* sh = a.sh + (first + l) * k * 3;
            T r = T(0.5), g = T(0.5), b = T(0.5);
            for (int i = 0; i < k; ++i) r += share[i][l] * sh[i * 3], g += share[i][l] * sh[i * 3 + 1], b += share[i][l] * sh[i * 3 + 2];
            sums[0][l] = r, sums[1][l] = g, sums[2][l] = b;
        }
        for (int c = 0; c < 3; ++c) out[c] = L::load(sums[c]);
    }

    // From the gradient of the colours to that of the coefficients (added to unless `fresh`) and of the basis.
    void colors_grad(const V* basis, const V* grad, bool fresh, T* grad_sh, V* grad_basis) const {
        alignas(64) T share[16][lanes], back[16][lanes] = {}, g[3][lanes];
        const int k = a.coefficients;
        for (int i = 0; i < k; ++i) L::store(share[i], basis[i]);
        for (int c = 0; c < 3; ++c) L::store(g[c], grad[c]);
        for (int l = 0; l < count; ++l) {
            const T* sh = a.sh + (first + l) * k * 3;
            const T r = g[0][l], gr = g[1][l], b = g[2][l];
            if (k > 1)
                for (int i = 0; i < k; ++i) back[i][l] = sh[i * 3] * r + sh[i * 3 + 1] * gr + sh[i * 3 + 2] * b;
            if (!grad_sh) continue;
            T* out = grad_sh + (first + l) * k * 3;
            if (fresh) {
                for (int i = 0; i < k; ++i) out[i * 3] = share[i][l] * r, out[i * 3 + 1] = share[i][l] * gr, out[i * 3 + 2] = share[i][l] * b;
            } else {
                for (int i = 0; i < k; ++i) out[i * 3] += share[i][l] * r, out[i * 3 + 1] += share[i][l] * gr, out[i * 3 + 2] += share[i][l] * b;
            }
        }
        for (int i = 0; i < k; ++i) grad_basis[i] = L::load(back[i]);
    }

    M finite_colors(const V* colors) const {
        const V sum = colors[0] + colors[1] + colors[2];
        return sum - sum == V{};
    }

    void forward(const Splat<V>& s, const ProjectCamera<T>& camera, int64_t image) const {
        const V zero = {};
        const int64_t at = image * a.n + first;
        SplatView<V> v;
        M visible = view_splat(s, camera, a.antialiased, v);
        if (a.coefficients > 0) {
            V direction[3] = {}, basis[16], color[3];
            if (a.coefficients > 1) view_direction(s, camera, direction);
            sh_basis<T>(a.coefficients, direction[0], direction[1], direction[2], basis);
            colors(basis, color);
            visible &= finite_colors(color);
            for (int c = 0; c < 3; ++c) color[c] = visible & (color[c] > zero) ? color[c] : zero;
            store<3>(color, a.colors + at * 3);
        }
        if (a.normals) {
            V share[3], normal[3];
            splat_normal(s, camera, share, normal);
            for (int i = 0; i < 3; ++i) normal[i] = visible ? normal[i] : zero;
            store<3>(normal, a.normals + at * 3);
        }
        for (int i = 0; i < 2; ++i) v.pixel[i] = visible ? v.pixel[i] : zero;
        for (int i = 0; i < 3; ++i) v.conic[i] = visible ? v.conic[i] : zero;
        v.opacity = visible ? v.opacity : zero;
        v.depth = visible ? v.depth : zero;
        store<2>(v.pixel, a.pixels + at * 2);
        store<3>(v.conic, a.conics + at * 3);
        store<1>(&v.opacity, a.out_opacities + at);
        store<1>(&v.depth, a.depths + at);
    }

    static void hide(M visible, SplatView<V>& v) {
        V* fields = reinterpret_cast<V*>(&v);
        for (size_t i = 0; i < sizeof(v) / sizeof(V); ++i) fields[i] = visible ? fields[i] : V{};
        v.compensation = visible ? v.compensation : V{} + T(1);
    }

    template <bool WithCamera>
    void backward(const Splat<V>& s, const ProjectCamera<T>& camera, const ProjectGrads<T>& g, int64_t image,
                  SplatGrads<V>& out, V* camera_sums) const {
        const V zero = {};
        const int64_t at = image * a.n + first;
        SplatView<V> v;
        M visible = view_splat(s, camera, a.antialiased, v);
        V direction[3] = {}, basis[16], color[3], inverse = zero;
        if (a.coefficients > 0) {
            if (a.coefficients > 1) inverse = view_direction(s, camera, direction);
            sh_basis<T>(a.coefficients, direction[0], direction[1], direction[2], basis);
            colors(basis, color);
            visible &= finite_colors(color);
            V grad[3], grad_basis[16];
            load<3>(g.colors + at * 3, grad);
            for (int c = 0; c < 3; ++c) grad[c] = visible & (color[c] > zero) ? grad[c] : zero;
            colors_grad(basis, grad, image == 0, g.sh, grad_basis);
            if (a.coefficients > 1) {
                V grad_direction[3];
                for (int i = 0; i < a.coefficients; ++i) grad_basis[i] = visible ? grad_basis[i] : zero;
                sh_basis_grad<T>(a.coefficients, direction[0], direction[1], direction[2], grad_basis, grad_direction);
                view_direction_grad<WithCamera, T>(direction, inverse, grad_direction, out, camera_sums);
            }
        }
        const M hidden = ~visible;
        const bool some_hidden = L::any(hidden);
        if (some_hidden) {
            if (!L::any(visible)) return;
            hide(visible, v);
        }
        SplatViewGrads<V> grad;
        load<2>(g.pixels + at * 2, grad.pixel);
        load<3>(g.conics + at * 3, grad.conic);
        load<1>(g.out_opacities + at, &grad.opacity);
        load<1>(g.depths + at, &grad.depth);
        if (some_hidden) {
            for (int i = 0; i < 2; ++i) grad.pixel[i] = visible ? grad.pixel[i] : zero;
            for (int i = 0; i < 3; ++i) grad.conic[i] = visible ? grad.conic[i] : zero;
            grad.opacity = visible ? grad.opacity : zero;
            grad.depth = visible ? grad.depth : zero;
        }
        view_splat_grad<WithCamera>(s, camera, a.antialiased, v, grad, out, camera_sums);
        if (g.normals) {
            V share[3], normal[3], grad_normal[3];
            splat_normal(s, camera, share, normal);
            load<3>(g.normals + at * 3, grad_normal);
            for (int i = 0; i < 3; ++i)
                for (int j = 0; j < 3; ++j) out.R[i * 3 + j] += visible ? grad_normal[i] * share[j] : zero;
        }
    }
};

template <typename T>
std::unique_ptr<ProjectCamera<T>[]> cameras(const ProjectArgs<T>& a) {
    std::unique_ptr<ProjectCamera<T>[]> out(new ProjectCamera<T>[a.b]);
    for (int64_t i = 0; i < a.b; ++i) out[i] = project_camera(a, i);
    return out;
}

}  // namespace

template <typename T>
void project_splats_forward(const ProjectArgs<T>& a, int threads) {
    constexpr int lanes = Block<T>::lanes;
    const auto camera = cameras(a);
    parallel_for((a.n + lanes - 1) / lanes, 64, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const Block<T> block{a, i * lanes, int(std::min<int64_t>(lanes, a.n - i * lanes))};
            const auto splat = block.splat();
            for (int64_t image = 0; image < a.b; ++image) block.forward(splat, camera[image], image);
        }
    });
}

template <bool WithCamera, typename T>
static void backward(const ProjectArgs<T>& a, const ProjectGrads<T>& g, int threads) {
    using V = typename Block<T>::V;
    constexpr int lanes = Block<T>::lanes;
    const auto camera = cameras(a);
    const int64_t blocks = (a.n + lanes - 1) / lanes, stride = a.b * kCameraGrads;
    // Parts do not depend on the number of threads, so neither does the sum over the splats.
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(blocks / 64, 32));
    std::unique_ptr<T[]> sums;
    if (WithCamera) sums.reset(new T[parts * stride]);
    parallel_for(parts, 1, threads, [&](int64_t begin, int64_t end, int) {
        std::unique_ptr<V[]> memory;
        V* part_sums = nullptr;
        for (int64_t part = begin; part < end; ++part) {
            if (WithCamera) {
                if (!memory) memory.reset(new V[stride]);
                part_sums = memory.get();
                std::fill(part_sums, part_sums + stride, V{});
            }
            for (int64_t i = part * blocks / parts; i < (part + 1) * blocks / parts; ++i) {
                const Block<T> block{a, i * lanes, int(std::min<int64_t>(lanes, a.n - i * lanes))};
                const auto splat = block.splat();
                SplatGrads<V> grads{};
                for (int64_t image = 0; image < a.b; ++image)
                    block.template backward<WithCamera>(splat, camera[image], g, image, grads, part_sums + image * kCameraGrads);
                V quat[4];
                orient_splat_grad<T>(splat, grads.R, quat);
                block.template store<3>(grads.mean, g.means + block.first * 3);
                block.template store<4>(quat, g.quats + block.first * 4);
                block.template store<3>(grads.scale, g.scales + block.first * 3);
                block.template store<1>(&grads.opacity, g.opacities + block.first);
            }
            if (!WithCamera) continue;
            for (int64_t i = 0; i < stride; ++i) {
                T total = T(0);
                for (int l = 0; l < lanes; ++l) total += part_sums[i][l];
                sums[part * stride + i] = total;
            }
        }
    });
    if (!WithCamera) return;
    for (int64_t image = 0; image < a.b; ++image) {
        T total[kCameraGrads] = {};
        for (int64_t part = 0; part < parts; ++part)
            for (int i = 0; i < kCameraGrads; ++i) total[i] += sums[part * stride + image * kCameraGrads + i];
        camera_grads(camera[image], total, g.K + image * 9, g.T_camera_world + image * 16);
    }
}

template <typename T>
void project_splats_backward(const ProjectArgs<T>& a, const ProjectGrads<T>& g, int threads) {
    if (g.K) {
        backward<true>(a, g, threads);
    } else {
        backward<false>(a, g, threads);
    }
}

template void project_splats_forward<float>(const ProjectArgs<float>&, int);
template void project_splats_forward<double>(const ProjectArgs<double>&, int);
template void project_splats_backward<float>(const ProjectArgs<float>&, const ProjectGrads<float>&, int);
template void project_splats_backward<double>(const ProjectArgs<double>&, const ProjectGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
