// avatar3d._C: binds every operation, and tells what this build holds.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>

#include "common/bindings.h"
#include "common/isa.h"
#include "common/probe.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace nb = nanobind;

// Images of a few megabytes come and go with every call. glibc gives such memory back to the system each time, and the
// page faults when it is taken again cost as much as drawing a mesh: keep up to 256 MB instead, unless the user has
// settings of their own.
static void keep_freed_memory() {
#ifdef __GLIBC__
    for (const char* name : {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"})
        if (std::getenv(name)) return;
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}

NB_MODULE(_C, m) {
    nb::set_leak_warnings(false);
    keep_freed_memory();
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
