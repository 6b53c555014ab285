// What crosses from Python: dense arrays (DLPack) of a known type on a known device.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>
#include <string>

namespace avatar3d {
namespace nb = nanobind;

template <typename T, typename Device>
using Array = nb::ndarray<T, nb::c_contig, Device>;
template <typename T>
using CpuArray = Array<T, nb::device::cpu>;
template <typename T>
using CudaArray = Array<T, nb::device::cuda>;

inline void require(bool ok, const char* what) {
    if (!ok) throw std::invalid_argument(what);
}

}  // namespace avatar3d
