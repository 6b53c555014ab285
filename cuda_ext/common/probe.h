// What this processor can do at most: the yardstick of `avatar3d bench`.
#pragma once
#include <cstdint>

#include "common/isa.h"

namespace avatar3d {

// Runs `rounds` steps of independent multiply-adds on every thread; `done` says how many, lane by lane.
AVATAR3D_DECLARE_CPU(void probe_fma(int64_t rounds, int threads, int64_t* done);)

}  // namespace avatar3d
