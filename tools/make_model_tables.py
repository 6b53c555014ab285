"""Makes our index tables for the meshes of FLAME, ICT and ARKit: mirror images, landmarks, regions, place on `head`.

    python tools/make_model_tables.py flame_zero_pose.obj --symmetric head_template.obj [--views 500]
    python tools/make_model_tables.py FaceXModel
    python tools/make_model_tables.py ARKit_reference_blendshapes.zip
    python tools/make_model_tables.py FaceXModel --mixture      # when only shapes of `head` have changed

Their vertex order is fixed, so tables made once serve every file of the model. They are learned from pictures of the
model: first as it is, then painted with the regions and moved by the shapes that the first landmarks let us carry over
from `head` (of FLAME only the mean mesh is needed here), because landmarks that are learned on a closed mouth end up
on the wrong lip. Nothing of those models is in the result: no positions, no shapes.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from make_landmarks import OUT, judge, landmark_network
from safetensors import safe_open
from safetensors.torch import save_file

from avatar3d import models
from avatar3d.models import embedding, flame
from avatar3d.models.correspondence import Correspondence, carried_model, carry_regions, correspond
from avatar3d.models.linear import LinearModel
from avatar3d.models.obj import read_obj
from avatar3d.models.symmetry import mirror_map
from avatar3d.models.tables import save_tables, shape_mixture
from avatar3d.storage import replacing


def bare_model(path: Path, symmetric: Path) -> LinearModel:
    """The mesh with its eyeballs, without any shapes."""
    mesh = read_obj(path)
    template = torch.from_numpy(mesh.vertices).float()
    faces = torch.from_numpy(mesh.quads[:, :3].astype(np.int64))
    mirror = mirror_map(torch.from_numpy(read_obj(symmetric).vertices))
    v = len(template)
    parts = flame.parts(template, faces)
    eyes = [template[parts[f"eyeball_{side}"]].mean(0) for side in ("left", "right")]
    weights = torch.zeros(v, 3)
    weights[:, 0] = 1
    return LinearModel(
        name="flame", licence="", template=template, identity_basis=torch.zeros(1, v, 3),
        expression_basis=torch.zeros(1, v, 3), expression_names=("none",), faces=faces, uvs=torch.zeros(1, 2),
        uv_faces=torch.zeros_like(faces), joint_names=("root", "eye_left", "eye_right"), joint_parents=(-1, 0, 0),
        joint_template=torch.stack([template.mean(0), *eyes]), joint_identity_basis=torch.zeros(1, 3, 3),
        skinning_weights=weights, regions=parts, mirror=mirror,
    )  # fmt: skip


def remix(path: Path, head: LinearModel, model: LinearModel) -> None:
    """Computes the packaged mixture of shapes anew, in place; all else stays as it was."""
    found = correspond(head, model)
    with safe_open(path, framework="pt") as file:
        tensors, about = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    tensors["mixture"] = shape_mixture(head, model, found).half()
    with replacing(path) as temporary:
        save_file(tensors, temporary, about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", type=Path)
    parser.add_argument("--symmetric", type=Path, help="FLAME's mesh in an exactly symmetric shape")
    parser.add_argument("--views", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--mixture", action="store_true", help="only what the model's shapes are in terms of head's")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.mixture:
        model = models.load(args.mesh)
        remix(args.out or OUT / f"{model.name}_tables.safetensors", models.load("head"), model)
        return

    head, detect = models.load("head"), landmark_network()
    model = bare_model(args.mesh, args.symmetric) if args.symmetric else models.load(args.mesh, landmarks=False)

    def dressed(learned: dict) -> tuple[LinearModel, Correspondence]:
        found = correspond(head, replace(model, landmarks=learned))
        if model.name in ("ict", "arkit"):  # they have shapes of their own
            return replace(model, regions=carry_regions(head, found, model)), found
        return carried_model(head, found, model), found

    learned = embedding.compute_embedding(model, detect, max(80, args.views // 4), args.seed)
    for _ in range(2):
        learned = embedding.compute_embedding(dressed(learned)[0], detect, args.views, args.seed)
    moving, found = dressed(learned)
    figures = judge(moving, learned["mediapipe478"], detect, max(60, args.views // 5), args.seed + 1)
    out = args.out or OUT / f"{model.name}_tables.safetensors"
    mixture = shape_mixture(head, model, found) if model.name in ("ict", "arkit") else None
    save_tables(out, moving, learned["mediapipe478"], found, {"views": args.views, "figures": figures}, mixture)
    print(json.dumps(figures, indent=1))
    print(out)


if __name__ == "__main__":
    main()
