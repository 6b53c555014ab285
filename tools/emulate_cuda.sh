#!/usr/bin/env bash
# Runs the operations' tests with their CUDA kernels emulated on the host (tests/emulated), where there is no GPU:
#
#   tools/emulate_cuda.sh [pytest arguments; default: native against reference, and all gradients]
#
# The package is copied to build/emulated, where tensors on the CPU take the place of those on CUDA. Slow: about a
# microsecond for every meeting of a thread with its warp.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=$PWD/build/emulated
mkdir -p "$out"
rm -rf "$out/run"
mkdir "$out/run"
cp -r avatar3d tests pyproject.toml "$out/run/"
rm -f "$out"/run/avatar3d/_C*
sed -i 's/\.is_cuda\b/.is_cpu/g' "$out"/run/avatar3d/ops/*.py
# Streams and devices are not needed; whatever runs on the CPU calls the functions of CUDA.
sed -i 's/with torch.cuda.device(tensor.device):/if True:/; s/torch.cuda.current_stream().cuda_stream/1/;
        s/getattr(module(), f"{name}_cuda")/getattr(module(), f"{name}_cuda", getattr(module(), name, None))/' "$out/run/avatar3d/ops/native.py"
cmake -S tests/emulated -B "$out/cmake" -G Ninja -DPython_EXECUTABLE="$(command -v "$python")" >"$out/cmake.log" ||
    { tail -20 "$out/cmake.log"; exit 1; }
cmake --build "$out/cmake"
cp "$out"/cmake/_C*.so "$out/run/avatar3d/"
[ $# -gt 0 ] || set -- -q tests/ops -k "equals or solves"
cd "$out/run"
PYTHONPATH=$PWD exec "$python" -m pytest -m "not gpu" "$@"
