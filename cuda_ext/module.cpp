// avatar3d._C: binds every operation, and tells what this build holds.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "common/bindings.h"
#include "common/isa.h"
#include "common/probe.h"

namespace nb = nanobind;

NB_MODULE(_C, m) {
    nb::set_leak_warnings(false);
#define AVATAR3D_BIND(op) avatar3d::bind_##op(m);
    AVATAR3D_OPERATIONS(AVATAR3D_BIND)
#undef AVATAR3D_BIND
#define AVATAR3D_NAME(op) #op,
    m.attr("OPERATIONS") = nb::cast(std::vector<std::string>{AVATAR3D_OPERATIONS(AVATAR3D_NAME)});
#undef AVATAR3D_NAME
#ifdef AVATAR3D_WITH_CUDA
    m.attr("HAS_CUDA") = true;
#else
    m.attr("HAS_CUDA") = false;
#endif
    m.def("isa_name", [] { return std::string(avatar3d::isa_name()); });
    m.def("probe_fma", [](int64_t rounds, int threads) {
        int64_t done = 0;
        AVATAR3D_DISPATCH(probe_fma(rounds, threads, &done));
        return done;
    });
}
