#include "common/bind.h"
#include "solve_chain/solve_chain.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
struct SolveChain {
    using In = Array<const T, Device>;
    using Out = Array<T, Device>;

    static int64_t scratch_size(int64_t b, int64_t t, int64_t n) {
        ChainArgs<T> a{};
        a.b = b, a.t = t, a.n = n;
        return b * a.rows() * a.stride();
    }

    static void forward(In blocks, In first, In second, In rhs, Out scratch, Out x, Queue<Device> queue) {
        require(blocks.ndim() == 4 && blocks.shape(2) == blocks.shape(3), "solve_chain: blocks [b,t,n,n]");
        const ChainArgs<T> a{blocks.data(), first.data(), second.data(), rhs.data(), int64_t(blocks.shape(0)),
                             int64_t(blocks.shape(1)), int64_t(blocks.shape(2)), scratch.data(), x.data()};
        const size_t size = size_t(a.b * a.t * a.n);
        require(first.size() == size && second.size() == size && rhs.size() == size && x.size() == size,
                "solve_chain: sizes disagree");
        require(int64_t(scratch.size()) >= scratch_size(a.b, a.t, a.n), "solve_chain: scratch is too small");
        AVATAR3D_RUN(Device, solve_chain_forward<T>(a, queue));
    }

    static void bind(nb::module_& m) { define<Device>(m, "solve_chain_forward", forward); }
};

}  // namespace

void bind_solve_chain(nb::module_& m) {
    m.def("solve_chain_scratch", &SolveChain<double, nb::device::cpu>::scratch_size);
    bind_everywhere<SolveChain>(m);
}

}  // namespace avatar3d
