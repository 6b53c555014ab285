// Builds the tree: faces are halved along the longest side of their middles, at whole leaves and nodes, until leaves
// of 16 remain; boxes are then filled in from below.
#include <algorithm>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "common/parallel.h"
#include "nearest_on_mesh/nearest_on_mesh.h"

namespace avatar3d {
namespace AVATAR3D_ISA {
namespace {

using Range = std::pair<int64_t, int64_t>;

template <typename T>
struct Middle {
    T at[3];
    int32_t id;
};

// Puts the lower part in front; where the upper begins, or 0 if the range is a leaf.
template <typename T>
int64_t halve(Middle<T>* middles, Range range) {
    const int64_t n = range.second - range.first;
    if (n <= kTreeWidth) return 0;
    int64_t block = kTreeWidth;
    while (block * kTreeWidth < n) block *= kTreeWidth;
    const int64_t at = range.first + (n + block - 1) / block / 2 * block;
    T low[3], high[3];
    for (int c = 0; c < 3; ++c) low[c] = high[c] = middles[range.first].at[c];
    for (int64_t i = range.first; i < range.second; ++i) {
        for (int c = 0; c < 3; ++c) {
            low[c] = std::min(low[c], middles[i].at[c]);
            high[c] = std::max(high[c], middles[i].at[c]);
        }
    }
    int axis = 0;
    for (int c = 1; c < 3; ++c)
        if (high[c] - low[c] > high[axis] - low[axis]) axis = c;
    std::nth_element(middles + range.first, middles + at, middles + range.second,
                     [axis](const Middle<T>& a, const Middle<T>& b) { return a.at[axis] < b.at[axis]; });
    return at;
}

template <typename T>
void sort_all(Middle<T>* middles, Range range) {
    const int64_t at = halve(middles, range);
    if (at == 0) return;
    sort_all(middles, {range.first, at});
    sort_all(middles, {at, range.second});
}

template <typename T>
void order_faces(std::vector<Middle<T>>& middles, int threads) {
    const int64_t n = int64_t(middles.size()), small = std::max<int64_t>(1024, n / (4 * threads));
    std::vector<Range> open{{0, n}}, rest;
    while (!open.empty()) {
        const Range range = open.back();
        open.pop_back();
        const int64_t at = range.second - range.first > small ? halve(middles.data(), range) : 0;
        if (at == 0) {
            rest.push_back(range);
        } else {
            open.push_back({range.first, at});
            open.push_back({at, range.second});
        }
    }
    parallel_for(int64_t(rest.size()), 1, threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) sort_all(middles.data(), rest[i]);
    });
}

template <typename T>
struct Box {
    T low[3], high[3];

    Box() {
        for (int c = 0; c < 3; ++c) low[c] = std::numeric_limits<T>::infinity(), high[c] = -low[c];
    }
    void add(const T* point) {
        for (int c = 0; c < 3; ++c) low[c] = std::min(low[c], point[c]), high[c] = std::max(high[c], point[c]);
    }
    void add(const Box& other) {
        for (int c = 0; c < 3; ++c) low[c] = std::min(low[c], other.low[c]), high[c] = std::max(high[c], other.high[c]);
    }
};

// All numbers of a face from its first nine.
template <typename T>
void describe(double* k) {
    const double *ab = k + 3, *ac = k + 6;
    double bc[3], n[3], perimeter = 0;
    for (int c = 0; c < 3; ++c) bc[c] = ac[c] - ab[c];
    cross_product(ab, ac, n);
    dual_vectors(ab, ac, k + 9, k + 12);
    const double* edges[3] = {ab, ac, bc};
    for (int i = 0; i < 3; ++i) {
        const double square = dot3(edges[i], edges[i]);
        perimeter += std::sqrt(square);
        k[22 + i] = std::isfinite(T(1 / square)) ? 1 / square : 0;  // shorter than T can tell: as if it had no length
    }
    const double area = std::sqrt(dot3(n, n));
    bool usable = area > 0;
    for (int c = 0; c < 3; ++c) {
        k[15 + c] = k[9 + c] + k[12 + c];
        k[18 + c] = n[c] / area;
        usable = usable && std::isfinite(T(k[9 + c])) && std::isfinite(T(k[12 + c])) && std::isfinite(k[18 + c]);
    }
    k[21] = area / perimeter * (area / perimeter);
    if (usable) return;
    std::fill(k + 9, k + 21, 0.0);
    k[21] = -std::numeric_limits<double>::infinity();
}

template <typename T>
void fill_leaf(const T* vertices, const int32_t* faces, int32_t* ids, int count, T* numbers, Box<T>* box) {
    std::sort(ids, ids + count);
    for (int l = 0; l < kTreeWidth; ++l) {
        double k[kFaceNumbers] = {};
        if (l < count) {
            const T* corners[3];
            for (int i = 0; i < 3; ++i) {
                corners[i] = vertices + int64_t(faces[int64_t(ids[l]) * 3 + i]) * 3;
                box->add(corners[i]);
            }
            for (int c = 0; c < 3; ++c) {
                k[c] = double(corners[0][c]);
                k[3 + c] = double(corners[1][c]) - k[c];
                k[6 + c] = double(corners[2][c]) - k[c];
            }
            describe<T>(k);
        } else {
            ids[l] = -1;
            for (int c = 0; c < 3; ++c) k[c] = double(std::numeric_limits<T>::max());
        }
        for (int i = 0; i < kFaceNumbers; ++i) numbers[i * kTreeWidth + l] = T(k[i]);
    }
}

}  // namespace

template <typename T>
void face_tree(const T* vertices, const int32_t* faces, int64_t b, int64_t v, int64_t f, T* boxes, T* leaves,
               int32_t* ids, int threads) {
    const TreeShape shape(f);
    std::vector<Middle<T>> middles;
    for (int64_t image = 0; image < b; ++image) {
        middles.clear();
        for (int64_t i = 0; i < f; ++i) {
            Box<T> box;
            T finite = T(0);  // faces with a corner that is not finite are left out
            for (int k = 0; k < 3; ++k) {
                const T* corner = vertices + int64_t(faces[i * 3 + k]) * 3;
                for (int c = 0; c < 3; ++c) finite += corner[c] - corner[c];
                box.add(corner);
            }
            if (!(finite == T(0))) continue;
            Middle<T> m;
            for (int c = 0; c < 3; ++c) m.at[c] = box.low[c] / 2 + box.high[c] / 2;
            m.id = int32_t(i);
            middles.push_back(m);
        }
        order_faces(middles, threads);

        const int64_t count = int64_t(middles.size());
        std::vector<Box<T>> below(shape.leaves);
        parallel_for(shape.leaves, 64, threads, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) {
                const int filled = int(std::max<int64_t>(0, std::min<int64_t>(kTreeWidth, count - i * kTreeWidth)));
                int32_t* own = ids + i * kTreeWidth;
                for (int l = 0; l < filled; ++l) own[l] = middles[i * kTreeWidth + l].id;
                fill_leaf(vertices, faces, own, filled, leaves + i * kFaceNumbers * kTreeWidth, &below[i]);
            }
        });
        for (int level = 1; level <= shape.levels; ++level) {
            std::vector<Box<T>> own((below.size() + kTreeWidth - 1) / kTreeWidth);
            for (size_t i = 0; i < own.size() * kTreeWidth; ++i) {
                const Box<T> child = i < below.size() ? below[i] : Box<T>();
                T* to = boxes + (shape.first[level] + int64_t(i / kTreeWidth)) * 6 * kTreeWidth + i % kTreeWidth;
                for (int c = 0; c < 3; ++c) to[c * kTreeWidth] = child.low[c], to[(3 + c) * kTreeWidth] = child.high[c];
                own[i / kTreeWidth].add(child);
            }
            below.swap(own);
        }
        vertices += v * 3;
        boxes += int64_t(shape.nodes) * 6 * kTreeWidth;
        leaves += int64_t(shape.leaves) * kFaceNumbers * kTreeWidth;
        ids += int64_t(shape.leaves) * kTreeWidth;
    }
}

template void face_tree<float>(const float*, const int32_t*, int64_t, int64_t, int64_t, float*, float*, int32_t*, int);
template void face_tree<double>(const double*, const int32_t*, int64_t, int64_t, int64_t, double*, double*, int32_t*, int);

}  // namespace AVATAR3D_ISA
}  // namespace avatar3d
