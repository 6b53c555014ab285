"""What engines make of a GLB: Khronos' validator, Blender, Godot, three.js in a headless browser; of splats:
PlayCanvas' converter.

python tests/engines/engine_checks.py me.glb [more.glb ...] [--pictures FOLDER]

Each check reads the file with the engine's own importer and returns plain arrays; `compare` holds them against the
file's accessors, which the exporter has itself held against the avatar.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import browser
import numpy as np
from browser import Missing

from avatar3d.models.glb_reader import GlbReader
from avatar3d.types import ARKIT_NAMES

HERE = Path(__file__).resolve().parent
ENGINES = Path(os.environ.get("AVATAR3D_ENGINES", HERE.parent.parent / "build" / "engines")).resolve()
TOLERANCE = 1e-4
"""Metres."""


def validate(glb: Path) -> dict:
    """The Khronos validator's report."""
    if not shutil.which("node") or not (ENGINES / "node_modules" / "gltf-validator").is_dir():
        raise Missing("the glTF validator is not installed: tests/engines/install.sh (needs npm)")
    environment = os.environ | {"AVATAR3D_ENGINES": str(ENGINES)}
    command = ["node", str(HERE / "validate.cjs"), str(glb)]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120).stdout)


def mikktspace(positions: np.ndarray, normals: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    """Tangents `[n, 4]` of triangles' corners by Mikkelsen's own code; uvs have their origin at the lower left."""
    if not shutil.which("node") or not (ENGINES / "node_modules" / "mikktspace").is_dir():
        raise Missing("MikkTSpace is not installed: tests/engines/install.sh (needs npm)")
    with tempfile.TemporaryDirectory() as folder:
        for name, values in (("positions", positions), ("normals", normals), ("uvs", uvs)):
            np.ascontiguousarray(values, np.float32).tofile(Path(folder) / f"{name}.f32")
        environment = os.environ | {"AVATAR3D_ENGINES": str(ENGINES)}
        subprocess.run(["node", str(HERE / "tangents.cjs"), folder], env=environment, check=True, timeout=120)
        return np.fromfile(Path(folder) / "tangents.f32", np.float32).reshape(-1, 4)


def splat_transform(path: Path, output: Path) -> None:
    """Lets PlayCanvas' converter read splats and write them again, in the format of `output`'s suffix."""
    program = ENGINES / "node_modules" / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
    if not shutil.which("node") or not program.is_file():
        raise Missing("splat-transform is not installed: tests/engines/install.sh (needs npm)")
    command = ["node", str(program), "-q", "-w", str(path), str(output)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if result.returncode or not output.exists():
        raise RuntimeError(f"splat-transform failed: {result.stdout[-1000:]}{result.stderr[-1000:]}")


def blender(glb: Path, fps: float, times: list[float]) -> dict:
    """What Blender imports: see `blender_dump.py`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.npz"
        arguments = [str(glb), str(out), str(fps), *map(str, times)]
        command = [*_blender_command(), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if not out.exists():
            raise RuntimeError(f"Blender failed: {result.stdout[-2000:]}{result.stderr[-2000:]}")
        with np.load(out) as data:
            return {name: data[name].tolist() if data[name].dtype.kind == "U" else data[name] for name in data}


def _blender_command() -> list[str]:
    script = str(HERE / "blender_dump.py")
    python = ENGINES / "bpy" / "bin" / "python"
    if python.exists():
        return [str(python), script]
    if shutil.which("blender"):
        return ["blender", "-b", "--factory-startup", "-P", script, "--"]
    raise Missing("Blender is not installed: tests/engines/install.sh --blender (1 GB)")


def godot(glb: Path, timeout: float = 120) -> dict:
    """What Godot 3 imports: see `godot_dump.gd`."""
    program = shutil.which("godot3-server") or shutil.which("godot3")
    if program is None:
        raise Missing("Godot is not installed: tests/engines/install.sh (needs apt; the package godot3-server)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        project, deadline = Path(folder), time.monotonic() + timeout
        (project / "project.godot").write_text("config_version=4\n")
        shutil.copy(glb, project / "avatar.glb")
        shutil.copy(HERE / "godot_dump.gd", project)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        with subprocess.Popen(
            [program, "-e"], env=os.environ | {"HOME": folder}, **quiet
        ) as editor:  # imports on start
            while not list(project.glob(".import/avatar.glb-*.md5")) and time.monotonic() < deadline:
                time.sleep(0.2)
            editor.terminate()
        subprocess.run([program, "-s", "godot_dump.gd"], env=os.environ | {"HOME": folder}, timeout=timeout, **quiet)
        if not (project / "out.json").exists():
            raise RuntimeError("Godot imported nothing")
        found = json.loads((project / "out.json").read_text())
        points = np.fromfile(project / "out.f32", np.float32).reshape(1 + len(found["names"]), -1, 3)
    return found | {"position": points[0], "morphs": points[1:] - points[0]}


def three(glb: Path, times: list[float], timeout: float = 240) -> dict:
    """What three.js loads and draws: see `three.html`. Pictures are under `still.png` and `frame0.png`, ..."""
    modules = ENGINES / "node_modules"
    if not (modules / "three").is_dir():
        raise Missing("three.js is not installed: tests/engines/install.sh (needs npm)")

    def served(path: str) -> bytes | None:
        file = {"/": HERE / "three.html", "/avatar.glb": glb}.get(path)
        if file is None:
            file = (ENGINES / path.lstrip("/")).resolve()
            if modules not in file.parents or not file.is_file():
                return None
        return file.read_bytes()

    query = f"times={json.dumps(times, separators=(',', ':'))}"
    received, _ = browser.converse(served, query=query, timeout=timeout)
    found = json.loads(received.pop("done"))
    for name, content in received.items():
        found[name] = content if name.endswith(".png") else np.frombuffer(content, np.float32).reshape(-1, 3)
    found["morphs"] = found["morphs"].reshape(len(found["names"]), -1, 3)
    found["posed"] = [found.pop(f"posed{i}") for i in range(len(times)) if f"posed{i}" in found]
    return found


def shapes_of(glb: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions `[v, 3]` and morph displacements `[s, v, 3]` as the file's accessors have them."""
    reader = GlbReader(glb)
    primitive = reader.document.meshes[0].primitives[0]
    morphs = np.stack([reader.accessor(target["POSITION"]) for target in primitive.targets])
    return reader.accessor(primitive.attributes.POSITION), morphs


def gap(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest distance, metres; infinite where the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(np.asarray(actual, np.float64) - expected, axis=-1).max())


def compare(found: dict, glb: Path) -> dict[str, float]:
    """Distances between what an engine has and what the file holds, metres."""
    position, morphs = shapes_of(glb)
    return {"neutral": gap(found.get("basis", found.get("position")), position), "morphs": gap(found["morphs"], morphs)}


def main() -> int:
    """Checks files from the command line; prints one line per check; exit status 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("glb", nargs="+", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for three.js' screenshots")
    arguments = parser.parse_args()
    return int(not all([_check(glb, arguments.pictures) for glb in arguments.glb]))


def _check(glb: Path, pictures: Path | None) -> bool:
    """Runs every check that is installed on one file, and prints what came of it."""
    outcomes = []

    def line(check: str, holds: bool, what: str) -> None:
        outcomes.append(holds)
        print(f"{'ok  ' if holds else 'FAIL'} {glb.name}: {check}: {what}", flush=True)

    times, fps = _middle(glb)
    line("size", glb.stat().st_size < 20e6, f"{glb.stat().st_size / 1e6:.2f} MB")
    try:
        issues = validate(glb)["issues"]
        counts = [f"{issues[f'num{kind}']} {kind.lower()}" for kind in ("Errors", "Warnings", "Infos")]
        line("glTF validator", issues["numErrors"] == 0, ", ".join(counts))
    except Missing as missing:
        print(f"skip {glb.name}: {missing}")
    engines = {
        "Blender": partial(blender, glb, fps, times),
        "Godot": partial(godot, glb),
        "three.js": partial(three, glb, times),
    }
    for name, check in engines.items():
        try:
            found = check()
        except Missing as missing:
            print(f"skip {glb.name}: {missing}")
            continue
        gaps = compare(found, glb)
        holds = max(gaps.values()) <= TOLERANCE and list(found["names"]) == list(ARKIT_NAMES)
        text = f"{found.get('version', found.get('revision'))}: {len(found['names'])} shapes by name, "
        line(name, holds, text + ", ".join(f"{k} within {1000 * v:.5f} mm" for k, v in gaps.items()))
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            for key in (k for k in found if k.endswith(".png")):
                (pictures / f"{glb.stem}_{key}").write_bytes(found[key])
    return all(outcomes)


def _middle(glb: Path) -> tuple[list[float], float]:
    """The time of the middle key of a file's animation (0 for a still), and its rate."""
    reader = GlbReader(glb)
    if not reader.document.animations:
        return [0.0], 30.0
    keys = reader.accessor(reader.document.animations[0].samplers[0].input)
    return [float(keys[len(keys) // 2])], (len(keys) - 1) / float(keys[-1]) if len(keys) > 1 else 30.0


if __name__ == "__main__":
    sys.exit(main())
