#include "common/bind.h"
#include "landmark_equations/landmark_equations.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct LandmarkEquations {
    using In = Array<const T, Device>;
    using Index = Array<const int64_t, Device>;
    using Out = Array<T, Device>;

    static void bind(nb::module_& m) {
        define<Device>(
            m, "landmark_equations_forward",
            [](In points, In identity_basis, In expression_basis, In expression_scale, Index pairs, In identity,
               In expression, In pose, In intrinsics, In detections, In weights, In pair_weights, double cauchy,
               double discount, bool shared, bool summed, Out scratch, Out H, Out g, Out cost, Queue<Device> queue) {
                const LandmarkArgs<T> a{
                    points.data(), identity_basis.data(), expression_basis.data(), expression_scale.data(),
                    pairs.data(), identity.data(), expression.data(), pose.data(), intrinsics.data(),
                    detections.data(), weights.data(), pair_weights.data(), int64_t(detections.shape(0)),
                    int64_t(points.shape(0)), int64_t(identity_basis.shape(2)), int64_t(expression_basis.shape(2)),
                    int64_t(pairs.shape(0)), T(cauchy), T(discount), shared, summed, scratch.data(), H.data(), g.data(),
                    cost.data()};
                const size_t o = size_t(a.o), l = size_t(a.l), n = size_t(a.unknowns());
                require(identity_basis.shape(0) == l && expression_basis.shape(0) == l && detections.shape(1) == l &&
                            weights.size() == o * l && pair_weights.size() == o * size_t(a.p),
                        "landmark_equations: numbers of landmarks disagree");
                require(expression.size() == o * size_t(a.e) && identity.size() == size_t(a.k) &&
                            expression_scale.size() == size_t(a.k) && pose.size() == o * 16 &&
                            intrinsics.size() == o * 4,
                        "landmark_equations: sizes of the unknowns disagree");
                require(scratch.size() >= l * 3 + 1 && H.size() == o * n * n && g.size() == o * n && cost.size() == o,
                        "landmark_equations: outputs have the wrong size");
                AVATAR3D_RUN(Device, landmark_equations_forward<T>(a, queue));
            });
    }
};

}  // namespace

void bind_landmark_equations(nb::module_& m) { bind_everywhere<LandmarkEquations>(m); }

}  // namespace avatar3d
