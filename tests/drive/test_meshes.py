"""Mesh sequences of known topology give back what moved them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar3d import models, storage
from avatar3d.drive import from_meshes
from avatar3d.drive.mesh_fit import MeshFitSettings, fit_frames, rigid_fit
from avatar3d.errors import AvatarError, FileError, FormatError
from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces
from avatar3d.models.arkit import arkit_shapes
from avatar3d.models.livelink import SHAPE_NAMES
from avatar3d.models.motion import head_rotation
from avatar3d.models.obj import read_obj
from avatar3d.models.rig import build_rig, pose_rig
from avatar3d.models.topology import find_topology, of_correspondence
from avatar3d.pipeline.meshes import drive_from_meshes, is_mesh_source
from avatar3d.pipeline.using import drive
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Avatar
from tests.models import flame_file

SWEEPS = (("jawOpen",), ("mouthSmileLeft", "mouthSmileRight"), ("eyeBlinkLeft", "eyeBlinkRight"), ("mouthPucker",))


def sweeps(n: int = 12) -> torch.Tensor:
    """Coefficients that rise from 0 to 1 and fall again, one after the other."""
    wave = 0.5 - 0.5 * torch.cos(torch.linspace(0, 2 * math.pi, n))
    out = torch.zeros(len(SWEEPS) * n, 52)
    for i, names in enumerate(SWEEPS):
        out[i * n : (i + 1) * n, [ARKIT_INDEX[name] for name in names]] = wave[:, None]
    return out


def turning(t: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A head that turns, nods and moves by a few centimetres."""
    at = torch.linspace(0, 2 * math.pi, t)
    R = rotvec_to_matrix(torch.stack([0.2 * at.sin(), 0.4 * (0.5 * at).sin(), 0.1 * at.sin()], 1))
    return R, torch.stack([0.02 * at.sin(), 0 * at, 0.03 * (1 - at.cos())], 1)


def turned(found, R: torch.Tensor) -> torch.Tensor:
    """Degrees between what was found and the truth, up to how a face at rest is held, which is a matter of taste."""
    off = found.T_world_head[:, :3, :3].mT @ R
    return torch.rad2deg(matrix_to_rotvec(off @ off[:1].mT).norm(dim=1))


@pytest.fixture
def without_assets(monkeypatch, tmp_path):
    monkeypatch.setenv("AVATAR3D_ASSETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def head():
    return models.load("head")


@pytest.fixture(scope="module")
def person(head):
    """Somebody's sweeps, turning: vertices [48, 5042, 3], coefficients, rotation, translation."""
    identity = 0.7 * torch.randn(60, generator=torch.Generator().manual_seed(3))
    c = sweeps()
    R, p = turning(len(c))
    rest = head.rest_vertices(identity[None].repeat(len(c), 1), c)
    return rest @ R.mT + p[:, None], c, R, p


def test_heads_own_mesh_gives_back_everything(person):
    vertices, c, R, p = person
    found = from_meshes(vertices, fps=25.0)
    assert found.topology.name == "head" and found.units == "metres" and found.motion.fps == 25
    driven = c.amax(0) > 0
    assert (found.motion.expression - c)[:, driven].abs().mean() < 0.02
    assert found.motion.expression[:, ~driven].max() < 0.01
    assert turned(found, R).max() < 0.05 and found.residual_mm.max() < 0.1
    # the motion's joints carry the head exactly so
    torch.testing.assert_close(head_rotation(found.motion).float(), found.T_world_head[:, :3, :3], atol=1e-4, rtol=0)
    assert set(found.by_region_mm) >= {"face", "lips_outer", "eyelids"}


def test_units_and_axes_are_found(person):
    """Millimetres, z up: the same motion."""
    vertices, c, R, _ = person
    z_up = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    found = from_meshes(1000 * vertices[:24] @ z_up.T + torch.tensor([500.0, 200.0, 1500.0]))
    assert found.units == "millimetres" and found.metres_per_unit == 0.001
    driven = c[:24].amax(0) > 0
    assert (found.motion.expression - c[:24])[:, driven].abs().mean() < 0.02
    assert turned(found, R[:24]).max() < 0.3


def test_the_motion_replays_the_meshes(person, head):
    """On a rig of the same neutral the frames come back, up to where in the world the head began."""
    vertices, _, _, _ = person
    rig = build_rig(head, torch.zeros(1))
    found = from_meshes(vertices[:16], rig=rig)
    rig = replace(rig, neutral=found.neutral, shapes=found.shapes)
    m = found.motion
    back = pose_rig(rig, m.expression, m.rotations, m.translation)
    skull = head.regions["face"] & (head.skinning_weights[:, head.joint_index("head")] > 0.999)
    gap = (back - vertices[:16])[:, skull]
    assert (gap - gap[:1].mean(1, keepdim=True)).norm(dim=2).mean() < 1.5e-3


def test_a_first_frame_that_smiles_is_not_taken_for_neutral(person):
    vertices, c, _, _ = person
    order = torch.cat([torch.arange(17, 40), torch.arange(17)])
    smile = ARKIT_INDEX["mouthSmileLeft"]
    assert c[order[0], smile] > 0.9
    estimated, first = (from_meshes(vertices[order], neutral=n).motion.expression for n in ("estimate", "first"))
    assert (estimated - c[order])[:, smile].abs().mean() < 0.05
    assert (first - c[order])[c[order, smile] > 0.05, smile].abs().mean() > 0.5


def test_a_given_neutral_serves_a_single_frame(person, head):
    vertices, c, _, _ = person
    found = from_meshes(vertices[5:6], neutral=vertices[0])
    assert abs(found.motion.expression[0, ARKIT_INDEX["jawOpen"]] - c[5, ARKIT_INDEX["jawOpen"]]) < 0.03


def test_smoothness_takes_noise_away(person):
    vertices, c, _, _ = person
    noisy = vertices[:24] + 2e-3 * torch.randn(vertices[:24].shape, generator=torch.Generator().manual_seed(0))

    def jitter(bend: float) -> float:
        motion = from_meshes(noisy, neutral="first", settings=MeshFitSettings(bend=bend)).motion.expression
        return float((motion[2:] - 2 * motion[1:-1] + motion[:-2]).square().mean().sqrt())

    assert jitter(0.02) < 0.8 * jitter(float("inf"))


@pytest.mark.parametrize("count", [24591, 9409])
def test_ict_sweeps_without_its_file(data, without_assets, count):
    """ICT-FaceKit's shapes are known by what they are in the head's terms; the person is not the mean."""
    ict = models.load(data("3dmm/ict/FaceXModel/generic_neutral_mesh.obj").parent)
    c = sweeps(8)
    expression = torch.stack([c[:, ARKIT_INDEX[n]] for n in ict.expression_names], 1)
    who = torch.zeros(len(c), len(ict.identity_basis)) + torch.tensor([0.8, -1.0, 0.5])
    found = from_meshes(100 * ict.rest_vertices(who, expression)[:, :count])
    assert found.units == "centimetres" and not found.topology.own
    driven = c.amax(0) > 0
    assert (found.motion.expression - c)[:, driven].abs().mean() < 0.05
    assert (found.motion.expression - c)[c > 0.05].abs().mean() < 0.08
    assert found.residual_mm.median() < 0.6 and found.residual_mm.max() < 3.5  # jaws open differently


def test_ict_sweeps_with_its_file(data, monkeypatch):
    monkeypatch.setenv("AVATAR3D_ASSETS", str(data("3dmm/ict/FaceXModel/generic_neutral_mesh.obj").parents[2]))
    ict = models.load("ict")
    c = sweeps(8)
    expression = torch.stack([c[:, ARKIT_INDEX[n]] for n in ict.expression_names], 1)
    R, p = turning(len(c))
    vertices = ict.rest_vertices(torch.zeros(len(c), len(ict.identity_basis)), expression) @ R.mT + p[:, None]
    found = from_meshes(vertices)
    assert "jawOpen" in found.topology.own
    assert (found.motion.expression - c)[c > 0.05].abs().mean() < 0.03
    assert turned(found, R).max() < 0.3 and found.residual_mm.max() < 0.5


def test_apples_mesh_with_a_recorded_performance(data, monkeypatch):
    """A real recording's coefficients and head rotation, played on ARKit's reference blendshapes, come back."""
    monkeypatch.setenv("AVATAR3D_ASSETS", str(data("3dmm/arkit/ARKit_reference_blendshapes.zip").parents[1]))
    with np.load(data("motion/llv_dao_DERIVED.npz")) as file:
        values = torch.from_numpy(file["values61"])[60:110]
    c = torch.zeros(len(values), 52)
    for column, name in enumerate(SHAPE_NAMES):
        c[:, ARKIT_INDEX[name]] = values[:, column].clamp(0, 1)
    c[:, ARKIT_INDEX["tongueOut"]] = 0
    c[0] = 0  # the recording has no neutral frame
    yaw, pitch, roll = values[:, 52:55].unbind(1)
    R = rotvec_to_matrix(torch.stack([pitch, yaw, roll], 1))
    arkit = models.load("arkit")
    shapes = torch.stack([arkit.expression_basis[arkit.expression_names.index(n)] if n in arkit.expression_names
                          else torch.zeros(1220, 3) for n in ARKIT_NAMES])  # fmt: skip
    vertices = (arkit.template + torch.einsum("tk,kvc->tvc", c, shapes)) @ R.mT
    found = from_meshes(vertices, fps=60.0)
    assert len(found.topology.own) == 51
    assert (found.motion.expression - c).abs().mean() < 0.03
    assert turned(found, R).mean() < 0.3 and found.residual_mm.mean() < 0.4


@pytest.mark.parametrize("own, right, error", [(True, 51, 0.005), (False, 45, 0.03)])
def test_apples_blendshapes_as_frames(data, monkeypatch, tmp_path, own, right, error):
    """One shape a frame, in the order of their names, the first one no neutral: each is called by its name."""
    path = data("3dmm/arkit/ARKit_reference_blendshapes.zip")
    arkit = models.load(path)
    monkeypatch.setenv("AVATAR3D_ASSETS", str(path.parents[1] if own else tmp_path))
    monkeypatch.chdir(tmp_path)
    order = sorted(range(51), key=lambda i: arkit.expression_names[i])
    found = from_meshes(arkit.template + arkit.expression_basis[order], settings=MeshFitSettings(bend=math.inf))
    truth = torch.zeros(51, 52)
    truth[torch.arange(51), [ARKIT_INDEX[arkit.expression_names[i]] for i in order]] = 1
    e = found.motion.expression
    assert (e.argmax(1) == truth.argmax(1)).sum() >= right and (e - truth).abs().mean() < error


def test_flame_meshes_without_flame(data, without_assets):
    """FLAME's mesh is known by its vertices; here it moves by the head's shapes on a published mean face."""
    mesh = read_obj(data("3dmm/flame_side/flame_zero_pose.obj"))
    known = find_topology(5023)
    c = sweeps(8)
    R, p = turning(len(c))
    rest = torch.from_numpy(mesh.vertices).float()
    vertices = (rest + torch.einsum("tk,kvc->tvc", c, known.shapes)) @ R.mT + p[:, None]
    found = from_meshes(vertices)
    assert found.topology.name == "flame"
    assert (found.motion.expression - c)[c > 0.05].abs().mean() < 0.06
    assert turned(found, R).max() < 0.5 and found.residual_mm.max() < 0.6


def test_a_flame_fit_replays_through_a_file_in_flames_format(data, tmp_path, without_assets):
    """Parameters of a published fit on a model file in FLAME's format (its shapes are made up): residual in mm."""
    with np.load(data("motion/cap4d_seq00_fit.npz")) as fit:
        expression, moved = (torch.from_numpy(fit[k][:24]) for k in ("expr", "tra"))
    model = models.load(flame_file.write(tmp_path, mesh=_flame_mesh(data)))
    rng = torch.Generator().manual_seed(5)
    mixtures = 0.03 * torch.randn(100, 52, generator=rng)
    model = replace(model, expression_basis=torch.einsum("es,svc->evc", mixtures, arkit_shapes(model)), pose_basis=None,
                    joint_expression_basis=None, skinning_weights=torch.eye(6)[2].repeat(5023, 1))  # fmt: skip
    rest = model.rest_vertices(torch.zeros(len(expression), 1), expression)
    found = from_meshes(rest + moved[:, None].float(), fps=24.0)
    assert found.residual_mm.shape == (24,) and found.residual_mm.max() < 1.5
    # what is left of translation: where it began
    p = found.T_world_head[:, :3, 3]
    torch.testing.assert_close(p - p[:1], (moved - moved[:1]).float(), atol=2e-3, rtol=0)


def _flame_mesh(data):
    mesh = read_obj(data("3dmm/flame_side/flame_zero_pose.obj"))
    return mesh.vertices, mesh.quads[:, :3]


def test_a_mesh_with_a_given_correspondence(person, head, rng):
    """Points anywhere on the head, in any order."""
    vertices, c, R, _ = person
    chosen = torch.randperm(len(head.faces), generator=rng)[:4000]
    weights = torch.rand(4000, 3, generator=rng)
    weights = weights / weights.sum(1, keepdim=True)
    known = of_correspondence("mine", chosen, weights, torch.ones(4000, dtype=torch.bool))
    found = from_meshes(points_on_faces(vertices[:24], head.faces, chosen, weights), known)
    driven = c[:24].amax(0) > 0
    assert (found.motion.expression - c[:24])[:, driven].abs().mean() < 0.03
    assert turned(found, R[:24]).max() < 0.4


def test_rigid_motion_alone_is_exact(rng):
    n = 0.1 * torch.randn(50, 3, generator=rng)
    R, p = turning(5)
    found = rigid_fit(n @ R.mT + p[:, None], n, torch.rand(50, generator=rng))
    torch.testing.assert_close(found[0].float(), R, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1].float(), p, atol=1e-5, rtol=0)


def test_coefficients_stay_in_bounds(rng):
    n, S = 0.1 * torch.randn(200, 3, generator=rng), 0.01 * torch.randn(4, 200, 3, generator=rng)
    c = torch.tensor([[-0.5, 0.3, 1.7, 0.0]]).repeat(6, 1)
    frames = n + torch.einsum("tk,kvc->tvc", c, S)
    fit = fit_frames(frames, n, S, torch.ones(200), ("a", "b", "c", "d"), MeshFitSettings())
    assert fit.coefficients.min() >= 0 and fit.coefficients.max() <= 1
    assert abs(fit.coefficients[0, 2] - 1) < 1e-9 and abs(fit.coefficients[0, 0]) < 1e-9


@pytest.mark.parametrize(
    "change, error, text",
    [
        (lambda v: v[:1], ValueError, "1 mesh is no sequence"),
        (lambda v: v[:0], ValueError, "0 mesh"),
        (lambda v: v.index_fill(0, torch.tensor([2]), float("nan")), ValueError, "frame 2 has vertices that are not"),
        (lambda v: v[:, :5000], FormatError, "5000 vertices is of no topology that is known"),
        (lambda v: v.flip(1), FormatError, "not a face in its order"),
        (lambda v: torch.zeros_like(v), FormatError, "all lie in one point"),
    ],
)
def test_bad_input(person, change, error, text):
    with pytest.raises(error, match=text):
        from_meshes(change(person[0][:4]))


def test_a_mug_with_as_many_vertices_is_refused():
    i = torch.arange(5023) + 0.5
    turn = math.pi * (1 + 5**0.5) * i
    mug = torch.stack([0.05 * turn.cos(), 0.1 * i / 5023, 0.05 * turn.sin()], 1)
    with pytest.raises(FormatError, match="not a face in its order"):
        from_meshes(torch.stack([mug, mug + 0.001]))


def test_folders_tell_meshes_from_footage(tmp_path):
    with pytest.raises(FileError, match="neither meshes nor pictures"):
        is_mesh_source(tmp_path)
    for i in range(3):
        (tmp_path / f"{i}.png").touch()
    assert not is_mesh_source(tmp_path)
    (tmp_path / "0.obj").touch()
    assert not is_mesh_source(tmp_path)
    for i in range(3):
        (tmp_path / f"{i}.obj").touch()
    assert is_mesh_source(tmp_path)
    assert is_mesh_source(tmp_path / "x.npz") and not is_mesh_source(tmp_path / "x.mp4")


def test_an_avatar_is_driven_from_a_folder(person, head, tmp_path):
    vertices, c, _, _ = person
    avatar = Avatar(model="head", identity=torch.zeros(1), rig=build_rig(head, torch.zeros(1)), appearance=None)
    folder = tmp_path / "frames"
    folder.mkdir()
    faces = "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in head.faces.tolist())
    for i in range(4):  # written out of order, read by number: 2 before 10
        rows = "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in vertices[2 * i].tolist())
        (folder / f"frame{(2, 10, 11, 100)[i]}.obj").write_text(rows + faces)
    said = []
    motion = drive(avatar, folder, say=said.append)
    jaw = ARKIT_INDEX["jawOpen"]
    torch.testing.assert_close(motion.expression[:, jaw], c[:8:2, jaw], atol=0.05, rtol=0)
    assert any("within" in line for line in said) and any("rate" in line for line in said)
    storage.save(tmp_path / "x.motion", motion)
    np.savez(tmp_path / "x.npz", vertices=vertices[:8].numpy(), fps=50.0)
    assert drive(avatar, tmp_path / "x.npz").fps == 50
    (folder / "frame3.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(AvatarError, match="another topology"):
        drive(avatar, folder)


@pytest.mark.slow
def test_an_unknown_topology_is_registered_first(person, head, tmp_path, rng):
    """Some of the head's vertices in any order, millimetres: nobody knows this mesh."""
    vertices, c, R, _ = person
    order = torch.randperm(4800, generator=rng)
    place = torch.full((len(head.template),), -1)
    place[order] = torch.arange(4800)
    faces = place[head.faces]
    faces = faces[(faces >= 0).all(1)]
    np.savez(tmp_path / "x.npz", vertices=1000 * vertices[:24, order].numpy(), faces=faces.numpy(), fps=25.0)
    said = []
    found = drive_from_meshes(tmp_path / "x.npz", say=said.append)
    assert "no known topology" in said[0] and found.units == "millimetres" and found.motion.fps == 25
    assert turned(found, R[:24]).max() < 1.5
    assert (found.motion.expression - c[:24])[:, c[:24].amax(0) > 0].abs().mean() < 0.1
