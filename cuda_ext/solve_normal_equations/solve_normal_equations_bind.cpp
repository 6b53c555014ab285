#include "common/bind.h"
#include "solve_normal_equations/solve_normal_equations.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct SolveNormalEquations {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;

    static void forward(In H, In g, In lower, In upper, Out x, Array<int64_t, Device> rounds, Queue<Device> queue) {
        require(H.ndim() == 3 && H.shape(1) == H.shape(2), "solve_normal_equations: H [b,n,n]");
        const size_t b = H.shape(0), n = H.shape(1);
        require(g.size() == b * n && lower.size() == b * n && upper.size() == b * n && x.size() == b * n &&
                    rounds.size() == b,
                "solve_normal_equations: sizes disagree");
        const SolveArgs<T> a{H.data(),     g.data(),   lower.data(), upper.data(),
                             int64_t(b), int64_t(n), x.data(),     rounds.data()};
        AVATAR3D_RUN(Device, solve_normal_equations_forward<T>(a, queue));
    }

    static void bind(nb::module_& m) { define<Device>(m, "solve_normal_equations_forward", forward); }
};

}  // namespace

void bind_solve_normal_equations(nb::module_& m) { bind_everywhere<SolveNormalEquations>(m); }

}  // namespace avatar3d
