"""A made-up person whose cheeks rise otherwise than the model's: two scans with expressions tell, and only of those."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from avatar3d import models
from avatar3d.errors import TrackingError
from avatar3d.geometry.surface import points_on_faces, vertex_normals
from avatar3d.models.rig import build_rig, pose_rig
from avatar3d.pipeline import expressions
from avatar3d.track.scan import ScanLandmarks
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, TextureSet
from avatar3d.types.mesh import Mesh

SMILE, BROW, PUCKER = (
    [ARKIT_INDEX[n] for n in names]
    for names in (("mouthSmileLeft", "mouthSmileRight"), ("browInnerUp",), ("mouthPucker",))
)


@pytest.fixture(scope="module")
def person():
    """Model, the person's neutral rig with the model's shapes, and with the person's own."""
    torch.set_num_threads(1)
    model = models.load("head")
    rng = torch.Generator().manual_seed(2)
    rig = build_rig(model, 0.5 * torch.randn(len(model.identity_basis), generator=rng))
    n, p = vertex_normals(rig.neutral, rig.faces), rig.neutral
    shapes = rig.shapes.clone()
    for side in (1, -1):
        cheek = rig.regions["cheeks"] & (p[:, 0] * side > 0)
        bump = torch.exp(-((p - p[cheek].mean(0)) ** 2).sum(1) / (2 * 0.014**2))
        shapes[SMILE[0 if side > 0 else 1]] += 0.004 * bump[:, None] * n
    forehead = p[rig.regions["forehead"]].mean(0)
    shapes[BROW[0]] += 0.003 * torch.exp(-((p - forehead) ** 2).sum(1) / (2 * 0.02**2))[:, None] * n
    return model, rig, replace(rig, shapes=shapes)


def scan_of(person, shown: dict[int, float], name: str) -> tuple[Mesh, ScanLandmarks]:
    """Skin and eyeballs in millimetres, finer than the model, and where its landmarks are."""
    model, _, own = person
    c = torch.zeros(1, 52)
    for k, x in shown.items():
        c[0, k] = x
    v = pose_rig(own, c)[0]
    outside = ~torch.stack([m for n, m in own.regions.items() if n.startswith(("teeth", "gum", "tongue", "mouth_c"))])
    faces = own.faces[outside.all(0)[own.faces].all(1)]
    fine, corners = trimesh.remesh.subdivide(v.double().numpy(), faces.numpy())
    e = model.landmarks["mediapipe478"]
    marks = 1000 * points_on_faces(v.double(), model.faces, e.faces, e.weights.double())
    sigma = torch.where(torch.isfinite(e.residual), 0.01, torch.inf)
    sigma[468:] = torch.inf
    mesh = Mesh(vertices=torch.from_numpy(1000 * fine), faces=torch.from_numpy(np.array(corners)), name=name)
    return mesh, ScanLandmarks(points=marks, sigma=sigma, scheme="mediapipe478", views=9)


@pytest.fixture(scope="module")
def learned(person):
    """From a smile and raised brows."""
    shown = [dict.fromkeys(SMILE, 0.8), dict.fromkeys(BROW, 0.9)]
    made = [scan_of(person, s, f"{i}.ply") for i, s in enumerate(shown)]
    marks = {mesh.name: m for mesh, m in made}
    grey = TextureSet(albedo=torch.full((64, 64, 3), 128, dtype=torch.uint8))
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expressions, "find_landmarks", lambda scan, model, progress=None: marks[scan.name])
        out = expressions.learn_expressions(
            [mesh for mesh, _ in made], person[0], person[1], grey, None, size=64, say=said.append
        )
    return *out, said


@pytest.mark.slow
def test_the_coefficients_are_told(learned):
    _, looks, told, said = learned
    assert [t["name"] for t in told] == ["0.ply", "1.ply"] and looks.wrinkles is None
    smile, brow = (t["expression"] for t in told)
    assert smile["mouthSmileLeft"] > 0.5 and smile["mouthSmileRight"] > 0.5 and smile.get("browInnerUp", 0) < 0.2
    assert brow["browInnerUp"] > 0.4 and brow.get("mouthSmileLeft", 0) < 0.2
    assert "mouthSmile" in said[0] and "browInnerUp" in said[1]


@pytest.mark.slow
def test_the_avatar_makes_the_faces_that_were_seen(learned):
    for told in learned[2]:
        before, after = (told["surface"][when] for when in ("before", "after"))
        assert after["median_mm"] < 0.6 * before["median_mm"] and after["p95_mm"] < before["p95_mm"], told


@pytest.mark.slow
def test_shapes_are_the_persons_own(person, learned):
    """Nearer to the truth across the surface where scans showed them; as they were where not."""
    _, rig, own = person
    better, _, told, _ = learned
    for shown, names, region in zip(told, (SMILE, BROW), ("cheeks", "forehead"), strict=True):
        mask, c, true = rig.regions[region], torch.zeros(1, 52), torch.zeros(1, 52)
        for name, x in shown["expression"].items():
            c[0, ARKIT_INDEX[name]] = x
        true[0, names] = 0.8 if names is SMILE else 0.9
        truth, was, now = pose_rig(own, true)[0], pose_rig(rig, c)[0], pose_rig(better, c)[0]
        n = vertex_normals(truth, rig.faces)[mask]
        off = [((v - truth)[mask] * n).sum(1).abs().mean() for v in (was, now)]
        assert off[1] < 0.5 * off[0], (region, off)
    assert torch.equal(better.shapes[PUCKER[0]], rig.shapes[PUCKER[0]])
    assert torch.equal(better.neutral, rig.neutral)


@pytest.mark.parametrize(
    "name, shown",
    [
        ("jawOpen.obj", {"jawOpen"}), ("MouthSmile.ply", {"mouthSmileLeft", "mouthSmileRight"}),
        ("eyeBlinkLeft.glb", {"eyeBlinkLeft"}), ("smile.obj", set()), ("mouth.obj", set()), ("jaw.ply", set()),
    ],
)  # fmt: skip
def test_scans_named_after_a_shape(person, name, shown):
    found = expressions.named_expression(name, person[1])
    assert (set() if found is None else {n for n, x in zip(ARKIT_NAMES, found, strict=True) if x == 1}) == shown


@pytest.mark.slow
def test_a_named_scan_is_that_shape(person, monkeypatch):
    """Raised brows whose coefficient the surface alone does not tell: the shape at 1 is the scan."""
    mesh, marks = scan_of(person, dict.fromkeys(BROW, 0.8), "browInnerUp.ply")
    monkeypatch.setattr(expressions, "find_landmarks", lambda scan, model, progress=None: marks)
    grey = TextureSet(albedo=torch.full((64, 64, 3), 128, dtype=torch.uint8))
    better, _, told = expressions.learn_expressions([mesh], person[0], person[1], grey, None, size=64)
    assert told[0]["expression"] == {"browInnerUp": 1.0}
    before, after = (told[0]["surface"][when] for when in ("before", "after"))
    assert after["median_mm"] < 0.5 * before["median_mm"] and after["median_mm"] < 0.06
    assert torch.equal(better.shapes[SMILE], person[1].shapes[SMILE])


@pytest.mark.slow
def test_somebody_else_is_refused(person, monkeypatch):
    model = person[0]
    rng = torch.Generator().manual_seed(9)
    other = build_rig(model, 2.5 * torch.randn(len(model.identity_basis), generator=rng))
    mesh, marks = scan_of((model, other, other), {}, "them.ply")
    monkeypatch.setattr(expressions, "find_landmarks", lambda scan, model, progress=None: marks)
    grey = TextureSet(albedo=torch.full((64, 64, 3), 128, dtype=torch.uint8))
    with pytest.raises(TrackingError, match=r"them.ply has another nose .* several scans are of one person"):
        expressions.learn_expressions([mesh], model, person[1], grey, None, size=64)
