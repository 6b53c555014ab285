#!/usr/bin/env bash
# Builds avatar3d._C into the source tree with the active Python; incremental.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
exec 9>build/.lock
flock 9
python=${PYTHON:-python3}
cmake -S cuda_ext -B build/inplace -G Ninja -DPython_EXECUTABLE="$(command -v "$python")" \
      -DAVATAR3D_CUDA="${AVATAR3D_CUDA:-auto}" ${AVATAR3D_CUDA_ARCHS:+-DAVATAR3D_CUDA_ARCHS="$AVATAR3D_CUDA_ARCHS"} >build/cmake.log || { tail -20 build/cmake.log; exit 1; }
cmake --build build/inplace
# Written beside, then renamed: a process that has the old module loaded keeps it.
for so in build/inplace/_C*.so; do
    cp "$so" "avatar3d/.new.so" && mv "avatar3d/.new.so" "avatar3d/$(basename "$so")"
done
