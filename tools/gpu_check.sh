#!/usr/bin/env bash
# All that needs a GPU, in one call of at most ten minutes: builds for the card that is here, runs the `gpu` tests and
# compute-sanitizer where it is installed, measures, and writes what came out to docs/gpu.md. Needs a GPU, nvcc, torch,
# cmake, ninja, nanobind and pytest; no network. Packages of avatar3d that are missing are taken from the wheels in
# $AVATAR3D_WHEELS:
#
#   pip download --only-binary=:all: -d wheels .     # where there is a network, for the same Python
#   AVATAR3D_WHEELS=wheels tools/gpu_check.sh
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=$PWD/build/gpu
export PYTHONPATH=$out/site:$PWD PYTHONUNBUFFERED=1

stop() {
    echo "gpu_check: $*" >&2
    exit 1
}

# stage NAME SECONDS COMMAND...: its output goes to a log and, if it fails, its end to the terminal.
stage() {
    local name=$1 seconds=$2 start=$SECONDS rc=0
    shift 2
    timeout "$seconds" "$@" >"$out/$name.log" 2>&1 || rc=$?
    if [ $rc -ne 0 ]; then
        tail -40 "$out/$name.log" >&2
        [ $rc -ne 124 ] || stop "$name took more than $seconds seconds (log: $out/$name.log)"
        stop "$name failed (log: $out/$name.log)"
    fi
    echo "gpu_check: $name ok, $((SECONDS - start)) s"
}

"$python" -c 'import torch' 2>/dev/null || stop "$python has no torch; set PYTHON to one that has."
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null ||
    stop "no GPU here: torch.cuda.is_available() is false. Nothing was built, run or written."
for tool in nvcc cmake ninja; do
    command -v $tool >/dev/null || stop "$tool is not on PATH."
done
mkdir -p "$out/site"
if [ -n "${AVATAR3D_WHEELS:-}" ]; then
    "$python" tools/gpu_wheels.py "$AVATAR3D_WHEELS" "$out/site" || stop "the wheels in $AVATAR3D_WHEELS could not be unpacked."
fi
missing=$("$python" tools/gpu_wheels.py) || stop "missing Python packages: $missing. Put their wheels into a folder and name it in AVATAR3D_WHEELS."

arch=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')
stage configure 60 cmake -S cuda_ext -B "$out/cmake" -G Ninja -DPython_EXECUTABLE="$(command -v "$python")" \
    -DAVATAR3D_CUDA=on -DAVATAR3D_CUDA_ARCHS="$arch-real"
stage build 270 cmake --build "$out/cmake"
for so in "$out"/cmake/_C*.so; do
    cp "$so" avatar3d/.new.so && mv avatar3d/.new.so "avatar3d/$(basename "$so")"
done

stage tests 180 "$python" -m pytest -q -m gpu tests/ops
if ! grep -qE '^[0-9]+ passed' "$out/tests.log" || grep -qE '^SKIPPED' "$out/tests.log"; then
    tail -20 "$out/tests.log" >&2
    stop "not every gpu test ran (log: $out/tests.log)"
fi

# Every operation once, on a small case: errors of memory, and races on shared memory.
sanitizer=$(command -v compute-sanitizer || ls "$(dirname "$(command -v nvcc)")/compute-sanitizer" 2>/dev/null || true)
for tool in memcheck racecheck; do
    if [ -z "$sanitizer" ]; then
        echo "not installed" >"$out/$tool.result"
        continue
    fi
    for only in '--kernel-regex kns=avatar3d' ""; do  # older versions have no such filter
        rc=0
        # shellcheck disable=SC2086
        timeout 75 "$sanitizer" --tool $tool --error-exitcode 99 $only "$python" tools/gpu_small.py >"$out/$tool.log" 2>&1 || rc=$?
        case $rc in 0 | 99 | 124) break ;; esac
    done
    case $rc in
    0) echo "no errors" >"$out/$tool.result" ;;
    99) tail -40 "$out/$tool.log" >&2 && stop "compute-sanitizer $tool found errors (log: $out/$tool.log)" ;;
    124) echo "did not end within 75 seconds" >"$out/$tool.result" ;;
    *) echo "did not run here (exit code $rc)" >"$out/$tool.result" ;;
    esac
    echo "gpu_check: $tool: $(cat "$out/$tool.result")"
done

names=$("$python" -c 'from avatar3d.cli.bench import NAMES; print(*[n for n in NAMES if n in ("skin", "mesh", "splats", "ssim", "nearest")])')
# shellcheck disable=SC2086
stage bench 150 "$python" -m avatar3d.cli.main bench $names --device cuda --json "$out/bench.json"
"$python" tools/gpu_report.py "$out" docs/gpu.md
echo "gpu_check: docs/gpu.md written, ${SECONDS} s in all"
