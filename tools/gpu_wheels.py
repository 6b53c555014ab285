"""For gpu_check.sh: which packages are missing, and unpacking them from wheels without a network.

python tools/gpu_wheels.py                  # prints what is missing; exit code 1 if anything is
python tools/gpu_wheels.py WHEELS FOLDER    # unpacks the wheels of what is missing into a folder
"""

import importlib.util
import sys
import zipfile
from pathlib import Path

# What `import avatar3d` and its tests and benchmarks stand on: module, and the distribution that brings it.
NEEDED = {
    "numpy": "numpy", "scipy": "scipy", "safetensors": "safetensors", "PIL": "pillow", "av": "av",
    "ai_edge_litert": "ai-edge-litert", "flatbuffers": "flatbuffers", "trimesh": "trimesh", "pygltflib": "pygltflib",
    "dataclasses_json": "dataclasses-json", "marshmallow": "marshmallow", "typing_inspect": "typing-inspect",
    "mypy_extensions": "mypy-extensions", "deprecated": "deprecated", "wrapt": "wrapt", "jaxtyping": "jaxtyping",
    "wadler_lindig": "wadler-lindig", "beartype": "beartype", "rich": "rich", "tyro": "tyro",
    "docstring_parser": "docstring-parser", "typeguard": "typeguard", "typing_extensions": "typing-extensions",
    "pytest": "pytest", "nanobind": "nanobind", "tqdm": "tqdm", "packaging": "packaging",
}  # fmt: skip


def missing() -> list[str]:
    """Distributions that are not there."""
    return [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]


def unpack(wheels: Path, folder: Path) -> None:
    """Unpacks the wheels of what is missing."""
    wanted = {name.replace("-", "_") for name in missing()}
    for wheel in sorted(wheels.glob("*.whl")):
        if wheel.name.split("-")[0].lower() in wanted:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)


def main(arguments: list[str]) -> int:
    if arguments:
        unpack(Path(arguments[0]), Path(arguments[1]))
        return 0
    absent = missing()
    print(", ".join(absent))
    return 1 if absent else 0


sys.exit(main(sys.argv[1:]))
