// Loops over channels whose number the compiler knows: 1 to 4, as nearly always; any other at run time.
#pragma once
#include <cstdint>
#include <type_traits>

namespace avatar3d {

// Calls fn(count), where count is a constant of the type of the number of channels, or 0 for "look at run time".
template <typename F>
inline void with_channels(int64_t channels, F&& fn) {
    switch (channels) {
        case 1: fn(std::integral_constant<int, 1>{}); break;
        case 2: fn(std::integral_constant<int, 2>{}); break;
        case 3: fn(std::integral_constant<int, 3>{}); break;
        case 4: fn(std::integral_constant<int, 4>{}); break;
        default: fn(std::integral_constant<int, 0>{});
    }
}

}  // namespace avatar3d
