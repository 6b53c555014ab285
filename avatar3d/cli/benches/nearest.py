"""Nearest points of a mesh: a closed head-sized mesh of 10k faces, points within a few millimetres of it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatar3d import ops
from avatar3d.cli.bench import Result, interleaved_ms, once_ms
from avatar3d.cli.benches.mesh import ellipsoid
from avatar3d.cli.benches.peers import open3d_scene, peer
from avatar3d.cli.common import say
from avatar3d.typing import Backend

FEW, NOISE = 200, 0.005
"""Standard deviation of the points about the surface, metres."""


def measure(device: torch.device) -> Iterator[Result]:
    """200 and 20k points with a tree that is kept, as the peers keep theirs; the tree alone; and the gradient of the
    distances, the tree made anew. The reference looks at every pair, and is left out at 20k."""
    generator = torch.Generator().manual_seed(0)
    vertices, faces = ellipsoid(51, 100)
    vertices, faces = vertices.float().to(device), faces.to(device)
    for count in (FEW, 20_000):
        at = torch.randint(0, len(vertices), (count,), generator=generator).to(device)
        points = vertices[at] + NOISE * torch.randn(count, 3, generator=generator).to(device)
        tree = ops.face_tree(vertices, faces, backend="native")

        def ours(points=points, tree=tree) -> ops.Nearest:
            return ops.nearest_on_mesh(points, vertices, faces, tree=tree, backend="native")

        functions: dict[str, Callable[[], object]] = {"ours": ours}
        functions |= _peers(points, vertices, faces, ours().distance)
        ms = interleaved_ms(functions, seconds=3.0)
        case = f"{count // 1000}k points, 10k faces" if count > FEW else f"{FEW} points, 10k faces"
        if count == FEW:
            ms["reference"] = once_ms(
                lambda points=points: ops.nearest_on_mesh(points, vertices, faces, backend="reference")
            )
        yield _result("forward", case, ms)
    ms = interleaved_ms({"ours": lambda: ops.face_tree(vertices, faces, backend="native")}, seconds=0.5)
    yield _result("forward", "tree of 10k faces", ms)
    moving = vertices.clone().requires_grad_()

    def gradient(count: int, backend: Backend) -> tuple[Tensor, ...]:
        found = ops.nearest_on_mesh(points[:count], moving, faces, backend=backend)
        return torch.autograd.grad(found.distance.sum(), moving)

    ms = interleaved_ms({"ours": lambda: gradient(FEW, "native")}, seconds=1.0)
    ms["reference"] = once_ms(lambda: gradient(FEW, "reference"))
    yield _result("forward+backward", f"{FEW} points, 10k faces", ms)


def _result(pass_: str, case: str, ms: dict[str, float]) -> Result:
    peers = {name: value for name, value in ms.items() if name != "ours"}
    return Result(bench="nearest", pass_=pass_, case=case, threads=torch.get_num_threads(), ours_ms=ms["ours"],
                  peers_ms=peers)  # fmt: skip


def _peers(points: Tensor, vertices: Tensor, faces: Tensor, distance: Tensor) -> dict[str, Callable[[], object]]:
    """trimesh and Open3D where they are installed and work, on the CPU; none may find a nearer point."""
    p, v, f = (t.cpu().numpy() for t in (points, vertices, faces))
    found: dict[str, Callable[[], object]] = {}
    trimesh, o3d = peer("trimesh.proximity"), peer("open3d")
    if trimesh is not None:
        mesh: Any = trimesh.Trimesh(v, f, process=False)
        try:
            _compare("trimesh", trimesh.proximity.closest_point(mesh, p)[1], distance)
            found["trimesh"] = lambda: trimesh.proximity.closest_point(mesh, p)
        except ImportError as error:  # rtree
            say(f"bench nearest: no trimesh: {error}")
    if o3d is not None:
        scene = open3d_scene(o3d, v, f)
        _compare("open3d", scene.compute_distance(p).numpy(), distance)
        found["open3d"] = lambda: scene.compute_closest_points(p)
    return found


def _compare(name: str, theirs: np.ndarray, ours: Tensor) -> None:
    """A peer may miss the nearest point (trimesh does, by 13 micrometres here); ours may not."""
    error = float((ours.cpu().numpy() - theirs).max())
    if not error < 1e-6:
        raise ArithmeticError(f"bench nearest: {name} finds points that are {error:.2g} m nearer than ours")
