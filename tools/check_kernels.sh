#!/usr/bin/env bash
# Compiles every .cu alone for sm_80 and sm_90, and fails on register spills in the blend kernels.
set -euo pipefail
cd "$(dirname "$0")/../cuda_ext"
mkdir -p ../build/nvcc
compile() {
    local source=$1 arch=$2 log
    log=../build/nvcc/$(basename "$source").$arch.log
    nvcc -std=c++17 -O3 -I. -arch="$arch" -Xptxas -v -c "$source" -o "${log%.log}.o" >"$log" 2>&1 || { cat "$log"; exit 1; }
    case $source in
    *blend_splats*) ! grep -B2 -E '[1-9][0-9]* bytes spill' "$log" || { echo "$source spills registers on $arch"; exit 1; } ;;
    esac
    echo "nvcc $arch $source: ok"
}
export -f compile
ls */*.cu | while read -r source; do echo "$source sm_80"; echo "$source sm_90"; done |
    xargs -P "$(nproc)" -L 1 bash -c 'compile "$0" "$1"'
