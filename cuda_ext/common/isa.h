// One build, several instruction sets: a *_cpu.cpp is compiled once for each, into a namespace of that name.
//
//   in skin.h:        AVATAR3D_DECLARE_CPU(template <typename T> void skin_forward(const SkinArgs<T>&, int threads);)
//   in skin_cpu.cpp:  namespace avatar3d { namespace AVATAR3D_ISA { ... } }
//   in skin_bind.cpp: AVATAR3D_RUN(Device, skin_forward<T>(args, queue));  (bind.h; on the CPU AVATAR3D_DISPATCH)
#pragma once

namespace avatar3d {

enum class Isa { baseline = 0, avx2 = 1, avx512 = 2 };

// The best that this processor and this build have; $AVATAR3D_ISA may lower it.
Isa active_isa();
const char* isa_name();

}  // namespace avatar3d

#ifdef AVATAR3D_X86
#define AVATAR3D_DECLARE_CPU(...) \
    namespace baseline {          \
    __VA_ARGS__                   \
    }                             \
    namespace avx2 {              \
    __VA_ARGS__                   \
    }                             \
    namespace avx512 {            \
    __VA_ARGS__                   \
    }
#define AVATAR3D_DISPATCH(...)                                                \
    switch (::avatar3d::active_isa()) {                                       \
        case ::avatar3d::Isa::avx512: ::avatar3d::avx512::__VA_ARGS__; break; \
        case ::avatar3d::Isa::avx2: ::avatar3d::avx2::__VA_ARGS__; break;     \
        default: ::avatar3d::baseline::__VA_ARGS__;                           \
    }
#elif defined(AVATAR3D_ISA)
#define AVATAR3D_DECLARE_CPU(...) \
    namespace AVATAR3D_ISA {      \
    __VA_ARGS__                   \
    }
#else
#define AVATAR3D_DECLARE_CPU(...) \
    namespace baseline {          \
    __VA_ARGS__                   \
    }
#define AVATAR3D_DISPATCH(...) ::avatar3d::baseline::__VA_ARGS__
#endif
