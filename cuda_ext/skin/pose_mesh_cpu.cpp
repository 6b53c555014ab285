#include "skin/pose_mesh.h"

#include <algorithm>
#include <memory>

#include "common/parallel.h"
#include "pose_joints/pose_joints.h"
#include "skin/block.h"
#include "skin/panels.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

constexpr int kGroup = kBlock * 3;  // columns of 64 vertices
constexpr int kParts = 16;          // sums over vertices: as many on any number of threads, so the result is the same

template <typename T>
using Buffer = std::unique_ptr<T[]>;

template <typename T>
PoseArgs<T> pose_args(const PoseMeshArgs<T>& a) {
    return {a.rest_joints(), a.rotvecs, a.parents, a.b, a.j, a.R(), a.T_posed_rest()};
}

// Rest joints, rotations, maps and posed joints of one item, and all factors of the basis, `factors` [rows].
template <typename T>
void pose_item(const PoseMeshArgs<T>& a, int64_t b, T* factors) {
    const int64_t width = a.j * 3;
    T* rest = a.rest_joints() + b * width;
    const T* c = a.coefficients + b * a.k;
    std::copy_n(a.joint_template(), width, rest);
    for (int64_t i = 0; i < a.k; ++i)
        for (int64_t n = 0; n < width; ++n) rest[n] += c[i] * a.joint_basis()[i * width + n];
    pose_chain(pose_args(a), b);
    for (int64_t j = 0; j < a.j; ++j) {
        const T *m = a.T_posed_rest() + (b * a.j + j) * 16, *p = rest + j * 3;
        T* out = a.joints + (b * a.j + j) * 3;
        for (int r = 0; r < 3; ++r) out[r] = m[r * 4] * p[0] + m[r * 4 + 1] * p[1] + m[r * 4 + 2] * p[2] + m[r * 4 + 3];
    }
    std::copy_n(c, a.k, factors);
    for (int64_t i = a.k; i < a.shapes(); ++i) {
        const int64_t entry = i - a.k + 9;  // the first joint has no correctives
        factors[i] = a.R()[b * a.j * 9 + entry] - (entry % 9 % 4 == 0 ? T(1) : T(0));
    }
    std::fill(factors + a.shapes(), factors + a.rows(), T(0));
}

// From the gradients of the factors (`factors` [rows]) and of the maps to those of coefficients and rotations.
template <typename T>
void pose_item_grad(const PoseMeshArgs<T>& a, const PoseMeshGrads<T>& g, int64_t b, T* factors, const PoseGrads<T>& own) {
    const int64_t width = a.j * 3;
    T *gM = const_cast<T*>(own.grad_T) + b * a.j * 16, *gR = const_cast<T*>(own.grad_R) + b * a.j * 9;
    if (a.correctives) std::copy_n(factors + a.k, 9 * (a.j - 1), gR + 9);
    if (g.grad_joints) {
        for (int64_t j = 0; j < a.j; ++j) {
            const T *gj = g.grad_joints + b * width + j * 3, *p = a.rest_joints() + b * width + j * 3;
            for (int r = 0; r < 3; ++r) {
                for (int c = 0; c < 3; ++c) gM[j * 16 + r * 4 + c] += gj[r] * p[c];
                gM[j * 16 + r * 4 + 3] += gj[r];
            }
        }
    }
    pose_chain_grad(pose_args(a), own, b);
    T* rest = own.grad_rest + b * width;
    if (g.grad_joints) {
        for (int64_t j = 0; j < a.j; ++j) {
            const T *m = a.T_posed_rest() + (b * a.j + j) * 16, *gj = g.grad_joints + b * width + j * 3;
            for (int c = 0; c < 3; ++c) rest[j * 3 + c] += m[c] * gj[0] + m[4 + c] * gj[1] + m[8 + c] * gj[2];
        }
    }
    if (!g.grad_coefficients) return;
    for (int64_t i = 0; i < a.k; ++i) {
        T total = factors[i];
        for (int64_t n = 0; n < width; ++n) total += a.joint_basis()[i * width + n] * rest[n];
        g.grad_coefficients[b * a.k + i] = total;
    }
}

// sums[0] += sums[1] + ..., in order.
template <typename T>
void add_parts(T* sums, int64_t parts, int64_t size, int threads) {
    parallel_for(size, 8192, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t part = 1; part < parts; ++part)
            for (int64_t i = begin; i < end; ++i) sums[i] += sums[part * size + i];
    });
}

}  // namespace

template <typename T>
void pose_mesh_forward(const PoseMeshArgs<T>& a, int threads) {
    if (a.b == 0) return;
    constexpr int M = Tiles<T>::items;
    const int64_t rows = a.rows();
    Buffer<T> factors(new T[a.b * rows]);  // tiles of up to M items: [rows, items of the tile]
    parallel_for((a.b + M - 1) / M, 4, threads, [&](int64_t begin, int64_t end, int) {
        Buffer<T> own(new T[rows]);
        for (int64_t b = begin * M; b < std::min(end * M, a.b); ++b) {
            pose_item(a, b, own.get());
            const int64_t first = b / M * M, items = std::min<int64_t>(M, a.b - first);
            for (int64_t i = 0; i < rows; ++i) factors[first * rows + i * items + b - first] = own[i];
        }
    });
    parallel_for(a.groups(), 1, threads, [&](int64_t begin, int64_t end, int) {
        BlockWeights<T> weights(a.j);
        Block<T> in, out;
        Buffer<T> last(begin < end && end == a.groups() ? new T[a.b * kGroup] : nullptr);
        for (int64_t group = begin; group < end; ++group) {
            const int64_t v0 = group * kBlock;
            const int n = static_cast<int>(std::min<int64_t>(kBlock, a.v - v0));
            // the last group goes through memory of its own: its panels are longer than the mesh
            T* rest = n == kBlock ? a.rest + v0 * 3 : last.get();
            const int64_t stride = n == kBlock ? a.v * 3 : kGroup;
            const int64_t tiles = (a.b + M - 1) / M, step = kPanel * sizeof(T) / tiles;
            for (int64_t panel = group * 4; panel < group * 4 + 4; ++panel) {
                const T* basis = a.packed + panel * rows * kPanel;
                for (int64_t tile = 0; tile < tiles; ++tile) {
                    const int items = static_cast<int>(std::min<int64_t>(M, a.b - tile * M));
                    const Ahead ahead{reinterpret_cast<const char*>(basis + rows * kPanel) + tile * rows * step, step};
                    add_shapes(basis, a.template_panels() + panel * kPanel, rows, factors.get() + tile * M * rows, items,
                               rest + tile * M * stride + panel % 4 * kPanel, stride, ahead);
                }
            }
            weights.load(a.weights, a.j, v0, n);
            for (int64_t b = 0; b < a.b; ++b) {
                const int64_t at = (b * a.v + v0) * 3;
                if (n < kBlock) std::copy_n(rest + b * kGroup, n * 3, a.rest + at);
                in.load_points(a.rest + at, n);
                apply_maps(a.T_posed_rest() + b * a.j * 16, weights, in, false, out);
                out.store_points(a.vertices + at, n);
            }
        }
    });
}

template <typename T>
void pose_mesh_backward(const PoseMeshArgs<T>& a, const PoseMeshGrads<T>& g, int threads) {
    if (a.b == 0) return;
    const int64_t rows = a.rows(), groups = a.groups(), maps = a.b * a.j * 12;
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(groups, kParts));
    const int64_t skipped = g.grad_coefficients ? 0 : a.correctives ? a.k / 4 * 4 : rows;
    // A small batch: sums over vertices in lanes, one vector for every factor. Else an item to a lane.
    const bool small = a.b < Tiles<T>::lanes / 2;
    const int64_t lanes = small ? a.b : (a.b + Tiles<T>::across - 1) / Tiles<T>::across * Tiles<T>::across;
    Buffer<T> map_sums(new T[parts * maps]()), factor_sums(new T[parts * lanes * rows]);
    parallel_for(parts, 1, threads, [&](int64_t begin, int64_t end, int) {
        BlockWeights<T> weights(a.j);
        Block<T> points, grads, out;
        Buffer<T> sums(new T[small ? a.b * rows * Tiles<T>::lanes : 1]);
        alignas(64) T columns[kGroup * Tiles<T>::across];
        for (int64_t part = begin; part < end; ++part) {
            T* totals = factor_sums.get() + part * lanes * rows;
            if (small)
                std::fill_n(sums.get(), a.b * rows * Tiles<T>::lanes, T(0));
            else
                std::fill_n(totals, lanes * rows, T(0));
            for (int64_t group = part * groups / parts; group < (part + 1) * groups / parts; ++group) {
                const int64_t v0 = group * kBlock;
                const int n = static_cast<int>(std::min<int64_t>(kBlock, a.v - v0));
                const T* basis = a.packed + group * 4 * rows * kPanel;
                weights.load(a.weights, a.j, v0, n);
                for (int64_t b = 0; b < a.b; ++b) {
                    const int64_t at = (b * a.v + v0) * 3;
                    if (!g.grad_vertices) {
                        out = {};
                    } else {
                        points.load_points(a.rest + at, n);
                        grads.load_points(g.grad_vertices + at, n);
                        apply_maps(a.T_posed_rest() + b * a.j * 16, weights, grads, true, out);
                        add_map_grads(weights, points, grads, map_sums.get() + part * maps + b * a.j * 12);
                    }
                    if (g.grad_rest) {
                        grads.load_points(g.grad_rest + at, n);
                        for (int i = 0; i < kBlock; ++i)
                            out.x[i] += grads.x[i], out.y[i] += grads.y[i], out.z[i] += grads.z[i];
                    }
                    if (skipped == rows) continue;
                    if (small) {
                        out.store_points(columns, kBlock);
                        for (int panel = 0; panel < 4; ++panel)
                            add_products(basis + panel * rows * kPanel, columns + panel * kPanel, skipped, rows,
                                         sums.get() + b * rows * Tiles<T>::lanes);
                        continue;
                    }
                    constexpr int across = Tiles<T>::across;
                    const int lane = static_cast<int>(b % across);
                    if (lane == 0 && a.b - b < across) std::fill_n(columns, kGroup * across, T(0));
                    for (int i = 0; i < kBlock; ++i) {
                        columns[(3 * i) * across + lane] = out.x[i];
                        columns[(3 * i + 1) * across + lane] = out.y[i];
                        columns[(3 * i + 2) * across + lane] = out.z[i];
                    }
                    if (lane == across - 1 || b == a.b - 1)
                        for (int panel = 0; panel < 4; ++panel)
                            add_items(basis + panel * rows * kPanel, columns + panel * kPanel * across, skipped, rows,
                                      totals + (b - lane) * rows);
                }
            }
            if (small)
                for (int64_t i = 0; i < a.b * rows; ++i) totals[i] = tree_sum<T>(load(sums.get() + i * Tiles<T>::lanes));
        }
    });
    Buffer<T> gM(new T[a.b * a.j * 16]()), gR(new T[a.b * a.j * 9]()), gp(new T[a.b * a.j * 3]);
    Buffer<T> scratch(new T[maps]());
    const PoseGrads<T> own{gR.get(), gM.get(), scratch.get(), gp.get(), g.grad_rotvecs};
    add_parts(factor_sums.get(), parts, lanes * rows, threads);
    add_parts(map_sums.get(), parts, maps, threads);
    parallel_for(a.b, 8, threads, [&](int64_t begin, int64_t end, int) {
        Buffer<T> factors(new T[rows]());
        for (int64_t b = begin; b < end; ++b) {
            constexpr int across = Tiles<T>::across;
            const T* totals = factor_sums.get() + (small ? b * rows : b / across * across * rows + b % across);
            for (int64_t i = skipped; i < rows; ++i) factors[i] = totals[small ? i : i * across];
            for (int64_t i = 0; i < a.j * 12; ++i)
                gM[b * a.j * 16 + i / 12 * 16 + i % 12] = map_sums[b * a.j * 12 + i];
            pose_item_grad(a, g, b, factors.get(), own);
        }
    });
}

template void pose_mesh_forward<float>(const PoseMeshArgs<float>&, int);
template void pose_mesh_forward<double>(const PoseMeshArgs<double>&, int);
template void pose_mesh_backward<float>(const PoseMeshArgs<float>&, const PoseMeshGrads<float>&, int);
template void pose_mesh_backward<double>(const PoseMeshArgs<double>&, const PoseMeshGrads<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
