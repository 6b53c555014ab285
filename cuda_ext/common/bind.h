// An operation's binding, written once for float and double, on the CPU and on CUDA.
//
//   template <typename T, typename Device>
//   struct Skin {
//       using In = Array<const T, Device>;
//       static void bind(nb::module_& m) {
//           define<Device>(m, "skin_forward", [](In points, ..., Queue<Device> queue) {  // "skin_forward_cuda" on CUDA
//               AVATAR3D_RUN(Device, skin_forward<T>(args, queue));
//           });
//       }
//   };
//   void bind_skin(nb::module_& m) { bind_everywhere<Skin>(m); }
//
// What one device alone does (checks of indices on the host, say) goes into `if constexpr (on_cpu<Device>)`.
#pragma once
#include <string>
#include <type_traits>
#include <utility>

#include "common/array.h"
#include "common/bindings.h"
#include "common/isa.h"

namespace avatar3d {

template <typename Device>
constexpr bool on_cpu = std::is_same_v<Device, nb::device::cpu>;

// The last argument of every kernel: number of threads on the CPU, the stream on CUDA.
template <typename Device>
using Queue = std::conditional_t<on_cpu<Device>, int, uint64_t>;

// Binds a function under its name, with "_cuda" added for that device.
template <typename Device, typename Function>
void define(nb::module_& m, const char* name, Function&& function) {
    m.def((std::string(name) + (on_cpu<Device> ? "" : "_cuda")).c_str(), std::forward<Function>(function));
}

// Calls the kernel of this device: the instruction set's that runs, or namespace cuda's.
#define AVATAR3D_RUN(Device, ...)                             \
    if constexpr (::avatar3d::on_cpu<Device>) {               \
        AVATAR3D_DISPATCH(__VA_ARGS__);                       \
    } else {                                                  \
        ::avatar3d::cuda::__VA_ARGS__;                        \
    }

template <template <typename T, typename Device> class Binding>
void bind_everywhere(nb::module_& m) {
    Binding<float, nb::device::cpu>::bind(m);
    Binding<double, nb::device::cpu>::bind(m);
#ifdef AVATAR3D_WITH_CUDA
    Binding<float, nb::device::cuda>::bind(m);
    Binding<double, nb::device::cuda>::bind(m);
#endif
}

// Arguments that may be left out cross as empty arrays, and reach the kernel as nullptr.
template <typename T, typename Device>
T* data_or_null(const Array<T, Device>& array) {
    return array.size() ? array.data() : nullptr;
}

}  // namespace avatar3d
