"""Scans of one made-up person in several expressions, with pores that stay and wrinkles that come and go.

    python tools/expression_scans.py FaceXModel FOLDER
    cd FOLDER && avatar3d fit neutral.ply smile.ply jaw.ply pucker.ply brow.ply -o me.avatar --report me.json

An ICT-FaceKit head, whose shapes are not the `head` model's, subdivided, in millimetres. docs/scans.md has the figures.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor
from torch.nn.functional import normalize

from avatar3d import models
from avatar3d.geometry.surface import vertex_normals

SHOWN: dict[str, dict[str, float]] = {
    "neutral": {}, "smile": {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9}, "jaw": {"jawOpen": 0.8},
    "pucker": {"mouthPucker": 0.9}, "brow": {"browInnerUp": 0.9},
}  # fmt: skip
IDENTITY = (0.8, -0.5, 0.6)
SKIN = 11248
"""ICT's first vertices are face, head and neck."""
PORES, FRONT = 8e-5, 0.02
FOREHEAD = (0.0, 0.072, 0.085)


def ripple(at: Tensor, centre: Tensor, size: float, way: tuple[float, ...], length: float, height: float) -> Tensor:
    """Waves of a length that fade from a centre, metres."""
    near = torch.exp(-((at - centre) ** 2).sum(1) / (2 * size**2))
    return height * near * torch.sin(2 * torch.pi / length * ((at - centre) @ normalize(torch.tensor(way), dim=0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ict", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model = models.load(arguments.ict, landmarks=False)
    identity = torch.tensor([IDENTITY])
    kept = torch.arange(len(model.template)) < SKIN
    for name in ("eyeball_left", "eyeball_right", "mouth_socket", "eye_socket_left", "eye_socket_right"):
        kept |= model.regions[name]
    faces = model.faces[kept[model.faces].all(1)].numpy()

    def posed(shown: dict[str, float]) -> Tensor:
        c = torch.zeros(1, len(model.expression_names))
        for name, x in shown.items():
            c[0, model.expression_names.index(name)] = x
        return model.rest_vertices(identity, c)[0]

    rest = posed({})
    smiling = (posed({"mouthSmileLeft": 1.0}) - rest)[:9409].norm(dim=1)
    cheek = rest[smiling.argmax()] + torch.tensor([0.012, 0.012, -0.006])
    for name, shown in SHOWN.items():
        both, corners = torch.cat([rest, posed(shown)], 1).double().numpy(), faces
        for _ in range(2):
            front = np.flatnonzero(both[:, :3][corners].mean(1)[:, 2] > FRONT)
            both, corners = trimesh.remesh.subdivide(both, corners, face_index=front)
        at, p = (torch.from_numpy(x.copy()).float() for x in (both[:, :3], both[:, 3:]))
        bumps = PORES * torch.sin(900 * at[:, 0] + 3 * torch.sin(300 * at[:, 1])) * torch.sin(900 * at[:, 1])
        if name == "smile":
            for side in (1.0, -1.0):
                centre = cheek * torch.tensor([side, 1.0, 1.0])
                bumps += ripple(at, centre, 0.012, (0.3 * side, 1.0, 0.0), 0.004, 2.5e-4)
        if name == "brow":
            bumps += ripple(at, torch.tensor(FOREHEAD), 0.03, (0.0, 1.0, 0.0), 0.006, 3e-4)
        n = vertex_normals(p, torch.from_numpy(np.array(corners)))
        scan = trimesh.Trimesh(1000 * (p + bumps[:, None] * n).double().numpy(), corners, process=False)
        scan.remove_unreferenced_vertices()
        scan.export(arguments.folder / f"{name}.ply")
        print(f"{name}.ply: {len(scan.vertices)} vertices")


if __name__ == "__main__":
    main()
