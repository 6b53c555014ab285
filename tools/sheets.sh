#!/usr/bin/env bash
# Fits clips and draws a contact sheet of each, to look at:  tools/sheets.sh OUT CLIP...
set -euo pipefail
out=$1
shift
mkdir -p "$out"
for clip in "$@"; do
    name=$(basename "${clip%.*}")
    avatar3d fit "$clip" -o "$out/$name.avatar" --report "$out/$name.json"
    avatar3d render "$out/$name.avatar" --sheet --footage "$clip" -o "$out/$name.png"
done
