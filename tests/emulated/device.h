// Included before everything else: arrays "on the device" lie in this process' memory.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace nanobind::device {
struct emulated : cpu {};
}  // namespace nanobind::device
#define cuda emulated
