#!/usr/bin/env bash
# From nothing to an installed avatar3d in $VENV (default .venv): what `make demo` and `make test` stand on.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}

need() { command -v "$1" >/dev/null 2>&1; }
if ! need g++ || ! need python3 || ! python3 -c 'import ensurepip, venv' 2>/dev/null || ! ls "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" >/dev/null 2>&1; then
    echo "avatar3d: installing a compiler and Python headers with apt-get"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends g++ python3 python3-dev python3-venv
fi

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip="$venv/bin/python -m pip"
$pip install -q -c constraints.txt torch
$pip install -q -c constraints.txt scikit-build-core nanobind cmake ninja
# Editable: tests and commands run on this checkout.
$pip install -q -c constraints.txt --no-build-isolation -e '.[test]'
touch "$venv/.installed"
