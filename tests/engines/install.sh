#!/usr/bin/env bash
# Installs what the engine checks use, outside the tree, in build/engines (or $AVATAR3D_ENGINES):
#   the Khronos glTF validator, three.js and splat-transform (npm), headless Chromium and Godot 3 where apt may install them;
#   the speech programs espeak-ng and flite likewise.
#   With --blender also Blender as a Python module, 1 GB, in an environment of its own.
# What cannot be installed is said, and its checks skip themselves.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${AVATAR3D_ENGINES:-$here/../../build/engines}
mkdir -p "$target"
status=0

if command -v npm >/dev/null; then
    cp "$here/package.json" "$target/"
    timeout 300 npm install --prefix "$target" --no-audit --no-fund --silent ||
        { echo "engines: npm install failed"; status=1; }
else
    echo "engines: no npm, so no glTF validator, no three.js, no splat-transform"
    status=1
fi

if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 ||
            { echo "engines: Chromium could not be installed"; status=1; }
    else
        echo "engines: no Chromium (three.js is not checked); install the package chromium"
        status=1
    fi
fi

if ! command -v godot3-server >/dev/null && ! command -v godot3 >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends godot3-server; } >/dev/null 2>&1 ||
            { echo "engines: Godot could not be installed"; status=1; }
    else
        echo "engines: no Godot; install the package godot3-server"
        status=1
    fi
fi

if ! command -v espeak-ng >/dev/null || ! command -v flite >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends espeak-ng flite; } >/dev/null 2>&1 ||
            { echo "voices: espeak-ng and flite could not be installed"; status=1; }
    else
        echo "voices: text is not spoken in the tests; install the packages espeak-ng and flite"
        status=1
    fi
fi

if [ "${1:-}" = --blender ]; then
    python=${PYTHON:-python3}
    { [ -d "$target/bpy" ] || "$python" -m venv "$target/bpy"; } &&
        "$target/bpy/bin/pip" install --quiet bpy || { echo "engines: no bpy for $("$python" --version)"; status=1; }
fi
exit $status
