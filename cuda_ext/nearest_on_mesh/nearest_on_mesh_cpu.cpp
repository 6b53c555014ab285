// Search: one point at a time, 16 boxes or 16 triangles at once, nearest first. The tree stands in face_tree_cpu.cpp.
#include "nearest_on_mesh/nearest_on_mesh.h"

#include <algorithm>
#include <limits>

#include "common/parallel.h"
#include "common/simd.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

// 16 numbers.
template <typename T>
struct Row {
    static constexpr int parts = kTreeWidth / Simd<T>::lanes;
    Vec<T> part[parts];

    // The first place of the least, and what stands there.
    int least(T* value) const {
        Vec<T> m = part[0];
        for (int h = 1; h < parts; ++h) m = part[h] < m ? part[h] : m;
#ifdef __AVX512F__
        if constexpr (sizeof(T) == 4) {
            const __mmask16 all = 0xFFFF;
            __m512 v = m, w = _mm512_maskz_shuffle_f32x4(all, v, v, 0x4E);
            w = w < v ? w : v, v = _mm512_maskz_shuffle_f32x4(all, w, w, 0xB1);
            w = w < v ? w : v, v = _mm512_maskz_permute_ps(all, w, 0x4E);
            w = w < v ? w : v, v = _mm512_maskz_permute_ps(all, w, 0xB1);
            w = w < v ? w : v;
            *value = w[0];
            return __builtin_ctz(_mm512_cmp_ps_mask(m, w, _CMP_EQ_OQ) | 1 << 15);
        }
#endif
        T found = m[0];
        for (int l = 1; l < Simd<T>::lanes; ++l) found = m[l] < found ? m[l] : found;
        *value = found;
        int place = kTreeWidth - 1;
        for (int i = kTreeWidth - 1; i >= 0; --i)
            if (part[i / Simd<T>::lanes][i % Simd<T>::lanes] == found) place = i;
        return place;
    }
};

template <typename T>
class Search {
   public:
    Search(const NearestArgs<T>& a, int64_t image) : a_(a), shape_(a.f) {
        boxes_ = a.tree.boxes + image * shape_.nodes * 6 * kTreeWidth;
        leaves_ = a.tree.leaves + image * shape_.leaves * kFaceNumbers * kTreeWidth;
        ids_ = a.tree.ids + image * shape_.leaves * kTreeWidth;
    }

    // The nearest face, the lowest of several; -1 if there is none.
    int32_t operator()(const T* p) {
        const T finite = p[0] - p[0] + (p[1] - p[1]) + (p[2] - p[2]);
        if (!(finite == T(0))) return -1;
        for (int c = 0; c < 3; ++c) p_[c] = Vec<T>{} + p[c];
        best_ = std::numeric_limits<T>::infinity();
        face_ = -1;
        look_at_leaf(hint_);  // neighbours in the list are mostly neighbours on the surface
        int level = shape_.levels;
        int32_t node = 0;
        open(level, node);
        for (;;) {
            T distance;
            const int child = open_[level].least(&distance);
            if (!(distance <= best_) || distance == std::numeric_limits<T>::infinity()) {
                if (level == shape_.levels) return face_;
                node /= kTreeWidth;
                ++level;
                continue;
            }
            reinterpret_cast<T*>(&open_[level])[child] = std::numeric_limits<T>::infinity();
            const int32_t next = node * kTreeWidth + child;
            if (level == 1) {
                look_at_leaf(next);
            } else {
                node = next;
                open(--level, node);
            }
        }
    }

   private:
    void open(int level, int32_t node) {
        const T* box = boxes_ + int64_t(shape_.first[level] + node) * 6 * kTreeWidth;
        for (int h = 0; h < Row<T>::parts; ++h) {
            open_[level].part[h] = box_distance<T>(p_[0], p_[1], p_[2], [&](int k) {
                return load(box + k * kTreeWidth + h * Simd<T>::lanes);
            });
        }
    }

    void look_at_leaf(int32_t leaf) {
        const T* numbers = leaves_ + int64_t(leaf) * kFaceNumbers * kTreeWidth;
        Row<T> row;
        for (int h = 0; h < Row<T>::parts; ++h) {
            const Vec<T> d = face_distance<T>(p_[0], p_[1], p_[2], [&](int k) {
                return load(numbers + k * kTreeWidth + h * Simd<T>::lanes);
            });
            row.part[h] = d == d ? d : Vec<T>{} + std::numeric_limits<T>::infinity();
        }
        T distance;
        const int place = row.least(&distance);
        const int32_t id = ids_[int64_t(leaf) * kTreeWidth + place];
        if (id >= 0 && (distance < best_ || (distance == best_ && id < face_))) {
            best_ = distance;
            face_ = id;
            hint_ = leaf;
        }
    }

    const NearestArgs<T>& a_;
    const TreeShape shape_;
    const T *boxes_, *leaves_;
    const int32_t* ids_;
    Vec<T> p_[3];
    Row<T> open_[kMostLevels + 1];  // distances of the children that are still to be seen, by level
    T best_ = T(0);
    int32_t face_ = -1, hint_ = 0;
};

}  // namespace

template <typename T>
void nearest_on_mesh_forward(const NearestArgs<T>& a, int threads) {
    for (int64_t image = 0; image < a.b; ++image) {
        parallel_for(a.n, 64, threads, [&](int64_t begin, int64_t end, int) {
            Search<T> search(a, image);
            for (int64_t i = begin; i < end; ++i) write_nearest(a, image, i, search(a.points + (image * a.n + i) * 3));
        });
    }
}

template void nearest_on_mesh_forward<float>(const NearestArgs<float>&, int);
template void nearest_on_mesh_forward<double>(const NearestArgs<double>&, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
