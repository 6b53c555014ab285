#include "common/array.h"
#include "common/bindings.h"
#include "solve_normal_equations/solve_normal_equations.h"

namespace avatar3d {
namespace {

template <typename T, typename Device>
SolveArgs<T> make_args(const Array<const T, Device>& H, const Array<const T, Device>& g,
                       const Array<const T, Device>& lower, const Array<const T, Device>& upper,
                       Array<T, Device>& x, Array<int64_t, Device>& rounds) {
    require(H.ndim() == 3 && H.shape(1) == H.shape(2), "solve_normal_equations: H [b,n,n]");
    const size_t b = H.shape(0), n = H.shape(1);
    require(g.size() == b * n && lower.size() == b * n && upper.size() == b * n && x.size() == b * n &&
                rounds.size() == b,
            "solve_normal_equations: sizes disagree");
    return {H.data(), g.data(), lower.data(), upper.data(), int64_t(b), int64_t(n), x.data(), rounds.data()};
}

template <typename T>
void bind_cpu(nb::module_& m) {
    using In = CpuArray<const T>;
    m.def("solve_normal_equations_forward",
          [](In H, In g, In lower, In upper, CpuArray<T> x, CpuArray<int64_t> rounds, int threads) {
              const auto a = make_args<T, nb::device::cpu>(H, g, lower, upper, x, rounds);
              AVATAR3D_DISPATCH(solve_normal_equations_forward<T>(a, threads));
          });
}

#ifdef AVATAR3D_WITH_CUDA
template <typename T>
void bind_cuda(nb::module_& m) {
    using In = CudaArray<const T>;
    m.def("solve_normal_equations_forward_cuda",
          [](In H, In g, In lower, In upper, CudaArray<T> x, CudaArray<int64_t> rounds, uint64_t stream) {
              cuda::solve_normal_equations_forward<T>(
                  make_args<T, nb::device::cuda>(H, g, lower, upper, x, rounds), stream);
          });
}
#endif

}  // namespace

void bind_solve_normal_equations(nb::module_& m) {
    bind_cpu<float>(m);
    bind_cpu<double>(m);
#ifdef AVATAR3D_WITH_CUDA
    bind_cuda<float>(m);
    bind_cuda<double>(m);
#endif
}

}  // namespace avatar3d
