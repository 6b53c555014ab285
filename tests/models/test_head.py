"""The packaged head: what it promises to trackers, texture bakers and exporters."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avatar3d.data import packaged
from avatar3d.errors import AssetError
from avatar3d.geometry.surface import points_on_faces
from avatar3d.models.head import load_head, read_head
from avatar3d.models.lids import close_lids
from avatar3d.models.registry import load
from avatar3d.ops import nearest_on_mesh, rasterize
from avatar3d.types.arkit import ARKIT_INDEX, ARKIT_NAMES, mirrored_name

ASSET = packaged("models/assets/head.safetensors")
SIDES = ("left", "right")


@pytest.fixture(scope="module")
def model():
    return load_head()


@pytest.fixture(scope="module")
def people(model) -> torch.Tensor:
    """Eight random identities, [8, k]."""
    return torch.randn(8, len(model.identity_basis), generator=torch.Generator().manual_seed(1))


def shape(model, name: str) -> torch.Tensor:
    return model.expression_basis[ARKIT_INDEX[name]]


def boundary_edges(faces: np.ndarray) -> set[tuple[int, int]]:
    directed = {(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    return {(a, b) for a, b in directed if (b, a) not in directed}


def test_small_and_quick():
    assert ASSET.stat().st_size <= 12e6
    started = time.process_time()
    read_head(ASSET)
    assert time.process_time() - started < 0.5


def test_arrays_are_sound(model):
    assert model.expression_names == ARKIT_NAMES
    assert model.joint_names == ("root", "neck", "head", "jaw", "eye_left", "eye_right")
    assert model.joint_parents == (-1, 0, 1, 2, 2, 2)
    assert 120 <= len(model.identity_basis) <= 160
    for array in (model.template, model.identity_basis, model.expression_basis, model.uvs, model.skinning_weights):
        assert torch.isfinite(array).all()
    assert int(model.faces.max()) == len(model.template) - 1
    assert torch.equal(model.faces.unique(), torch.arange(len(model.template)))
    assert (model.expression_basis.flatten(1).norm(dim=1) > 0).all()
    torch.testing.assert_close(model.joint_template[2], torch.zeros(3), atol=1e-6, rtol=0)


def test_human_size(model):
    """Metres: distance between the pupils, head height and width of adults (63, 230 and 155 mm), give or take."""
    left, right = model.joint_template[4], model.joint_template[5]
    assert 0.057 < float((left - right).norm()) < 0.068
    skull = model.template[model.regions["scalp"]]
    chin = model.template[model.regions["chin"]]
    assert 0.21 < float(skull[:, 1].max() - chin[:, 1].min()) < 0.26
    assert 0.13 < float(skull[:, 0].max() - skull[:, 0].min()) < 0.18
    assert left[0] > 0 > right[0] and left[2] > 0  # subject's left at +x, face along +z


def test_sizes_from_child_to_adult_within_two_sigma(model):
    """Head sizes of three-year-olds and tall men differ by a quarter; one component carries most of it."""
    slope = model.expression_scale
    assert 0.08 < float(slope.norm()) < 0.14
    assert float(slope[0].abs() / slope.norm()) > 0.9
    held = model.provenance["held_out_mm"]
    assert max(held["face"], held["face_of_children"], held["face_of_old"]) < 0.4


def test_nobody_nods_against_the_head(model, people):
    """The nod that lays the mean face on a person's is under half a degree, root mean square: pose and identity tell
    different things. (Face and cranium together as reference left 1.3 to 1.7 degrees in the identity.)"""
    face = model.regions["face"]
    mean = model.template[face].double()
    nods = []
    for own in model.rest_vertices(people)[:, face].double():
        U, _, Vt = torch.linalg.svd((own - own.mean(0)).T @ (mean - mean.mean(0)))
        R = U @ torch.diag(torch.tensor([1.0, 1.0, float(torch.det(U @ Vt))]).double()) @ Vt
        nods.append(torch.rad2deg(torch.asin(R[2, 1])))
    assert float(torch.stack(nods).square().mean().sqrt()) < 0.5


def test_symmetric(model):
    mirror, flip = model.mirror, torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(mirror[mirror], torch.arange(len(mirror)))
    torch.testing.assert_close(model.template[mirror] * flip, model.template, atol=1e-6, rtol=0)
    for name in ARKIT_NAMES:
        other = shape(model, mirrored_name(name))[mirror] * flip
        torch.testing.assert_close(other, shape(model, name), atol=5e-5, rtol=0)
    basis = model.identity_basis
    mirrored = basis[:, mirror] * flip
    even, odd = (basis - mirrored).abs().amax((1, 2)), (basis + mirrored).abs().amax((1, 2))
    assert float(torch.minimum(even, odd).max()) < 5e-5


def test_mesh_is_manifold_and_closed_but_for_collar_and_sockets(model):
    faces = model.faces.numpy()
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed)  # no edge twice in one direction
    regions = {name: mask.numpy() for name, mask in model.regions.items()}
    rim = {v for edge in boundary_edges(faces) for v in edge}
    allowed = regions["neck"] | regions["teeth_upper"] | regions["teeth_lower"]
    allowed |= regions["eye_socket_left"] | regions["eye_socket_right"]
    assert all(allowed[v] for v in rim)  # above all: no hole in the mouth
    template = model.template.double().numpy()
    for part in ("eyeball_left", "eyeball_right", "tongue"):
        own = faces[regions[part][faces].all(1)]
        a, b, c = (template[own[:, k]] for k in range(3))
        assert (np.cross(a, b) * c).sum() > 0  # outward


def test_atlas_neither_folds_nor_overlaps(model):
    uv = model.uvs.numpy()
    assert uv.min() > 0 and uv.max() < 1
    size = 512
    corners = uv[model.uv_faces.numpy()] * size
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    assert (area > 0).all()
    hits = np.zeros((size, size), int)
    for triangle in corners:
        low, high = np.floor(triangle.min(0)).astype(int), np.ceil(triangle.max(0)).astype(int)
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        inside = np.ones_like(x, bool)
        for k in range(3):
            p, q = triangle[k], triangle[(k + 1) % 3]
            inside &= (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) > 1e-9
        hits[low[1] : high[1], low[0] : high[0]] += inside
    assert hits.max() == 1
    assert (hits > 0).mean() > 0.75


def test_regions(model):
    sided = [f"{n}_{s}" for n in ("eyelid_upper", "eyelid_lower", "eyeball", "iris", "ear", "lacrimal") for s in SIDES]
    lips = [f"lips_{a}_{b}" for a in ("inner", "outer") for b in ("upper", "lower")]
    inside = ["teeth_upper", "teeth_lower", "gums_upper", "gums_lower", "tongue", "mouth_cavity"]
    outside = ["face", "scalp", "ears", "neck", "nose", "forehead", "brows", "cheeks", "jaw", "chin", "skull_attached"]
    for name in sided + lips + inside + outside:
        mask = model.regions[name]
        other = name.replace("left", "#").replace("right", "left").replace("#", "right")
        assert mask.any(), name
        assert torch.equal(mask[model.mirror], model.regions[other]), name
    for first, second in (("face", "scalp"), ("face", "neck"), ("face", "ears"), ("scalp", "neck"), (lips[0], lips[1])):
        assert not (model.regions[first] & model.regions[second]).any(), (first, second)
    # the skull does not move with expressions
    still = model.expression_basis[:, model.regions["skull_attached"]].norm(dim=2)
    assert float(still.max()) < 2e-3


def test_lips_of_everyone_touch(model, people):
    """Straight ahead no tooth shows between closed lips: the lower lip's top is above the upper lip's bottom."""
    for head in model.rest_vertices(people):
        for x in torch.linspace(-0.6, 0.6, 7):
            near = {}
            for which in ("upper", "lower"):
                lip = model.regions[f"lips_inner_{which}"] | model.regions[f"lips_outer_{which}"]
                half = head[lip][:, 0].abs().max()
                near[which] = head[lip & ((head[:, 0] - x * half).abs() < 0.12 * half)][:, 1]
            assert float(near["lower"].max()) > float(near["upper"].min())


def visible(model, heads: torch.Tensor, region: str, yaw: float = 0.0) -> torch.Tensor:
    """Pixels, of 200 a side about each head's own centre, that see faces of a region from 0.6 m, [n]."""
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float32)
    centred = (heads - heads[:, model.regions["face"]].mean(1, keepdim=True)) @ turn.T
    points = centred * torch.tensor([1.0, -1.0, -1.0]) + torch.tensor([0.0, 0.0, 0.6])
    K = torch.tensor([[470.0, 0, 100], [0, 470, 100], [0, 0, 1]]).expand(len(heads), 3, 3)
    seen = rasterize(points, model.faces, K, 200, 200).triangle
    inside = model.regions[region][model.faces].all(1)
    return (inside[seen.clamp(min=0).long()] & (seen >= 0)).sum((1, 2))


@pytest.mark.parametrize("side", SIDES)
def test_blink_hides_the_eyeball(model, people, side):
    ball, blink = f"eyeball_{side}", shape(model, f"eyeBlink{side.capitalize()}")
    mean = model.template[None]
    for yaw in (-30.0, 0.0, 30.0):
        assert int(visible(model, mean, ball, yaw)) > 60
        assert int(visible(model, mean + 0.5 * blink, ball, yaw)) > 15  # half shut is not shut
        assert int(visible(model, mean + blink, ball, yaw)) == 0
    heads, own = model.rest_vertices(people), model.scale(people)[:, None, None] * blink
    closed = torch.stack([head + close_lids(head, d, model.regions, side) for head, d in zip(heads, own, strict=True)])
    open_pixels = visible(model, heads, ball)
    assert (visible(model, closed, ball) <= 0.02 * open_pixels).all()
    assert (visible(model, heads + own, ball) <= 0.10 * open_pixels).all()


@pytest.mark.parametrize("yaw", [0.0, 40.0])
def test_closed_mouths_show_no_teeth_and_open_ones_do(model, people, yaw):
    heads = model.rest_vertices(people)
    teeth = sum(visible(model, heads, f"teeth_{row}", yaw) for row in ("upper", "lower"))
    assert int(teeth.max()) <= 3 and float(teeth.float().mean()) < 0.5
    expression = torch.zeros(len(people), 52)
    for name in ("mouthUpperUpLeft", "mouthUpperUpRight", "mouthSmileLeft", "mouthSmileRight", "jawOpen"):
        expression[:, ARKIT_INDEX[name]] = 0.3 if name == "jawOpen" else 0.8
    smiles = model.rest_vertices(people, expression)
    assert (visible(model, smiles, "teeth_upper", yaw) > 15).all()
    expression[:] = 0
    expression[:, ARKIT_INDEX["jawOpen"]] = 0.5
    parted = model.rest_vertices(people, expression)
    upper, lower = (visible(model, parted, f"teeth_{row}", yaw) for row in ("upper", "lower"))
    assert (upper > 10).all() and (lower > 3).all()


def test_lower_teeth_do_not_stand_free_of_a_fallen_lip(model):
    opened = model.template + shape(model, "jawOpen")
    middle = model.template[:, 0].abs() < 0.006
    teeth, lip = (opened[model.regions[name] & middle][:, 1].max() for name in ("teeth_lower", "lips_outer_lower"))
    assert 0.001 < float(teeth - lip) < 0.007
    # and nothing of them comes through the skin: from below and the side nothing but skin is seen
    inside = ["teeth_lower", "gums_lower", "tongue", "mouth_cavity"]
    assert sum(int(visible(model, opened[None], name, yaw)) for name in inside for yaw in (110.0, -110.0)) == 0


@pytest.mark.parametrize("side", SIDES)
def test_eyeball_stays_behind_a_closing_lid(model, side):
    blink = shape(model, f"eyeBlink{side.capitalize()}")
    ball = model.template[model.regions[f"eyeball_{side}"]]
    centre = model.joint_template[model.joint_index(f"eye_{side}")]
    radius = (ball - centre).norm(dim=1).mean()
    # the lid's outer sheet: in front of the ball and outside it at rest
    lid = model.regions[f"eyelid_upper_{side}"] & ((model.template - centre).norm(dim=1) > radius + 0.0003)
    for amount in (0.25, 0.5, 0.75, 1.0):
        distance = (model.template + amount * blink - centre)[lid].norm(dim=1)
        assert float(distance.min()) > float(radius)


def test_lids_of_a_model_without_margins_are_left_alone(model):
    blink = shape(model, "eyeBlinkLeft")
    assert close_lids(model.template, blink, {}, "left") is blink


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "direction, degrees, axis, sign", [("Up", 25, 1, 1), ("Down", 30, 1, -1), ("In", 30, 0, -1), ("Out", 30, 0, 1)]
)
def test_gaze_turns_the_eyeball(model, side, direction, degrees, axis, sign):
    centre = model.joint_template[model.joint_index(f"eye_{side}")]
    ball = model.regions[f"eyeball_{side}"]
    rest = model.template[ball] - centre
    turned = rest + shape(model, f"eyeLook{direction}{side.capitalize()}")[ball]
    u, _, vt = torch.linalg.svd(rest.T @ turned)
    rotation = (u @ vt).T
    torch.testing.assert_close(rest @ rotation.T, turned, atol=3e-5, rtol=0)
    angle = torch.rad2deg(torch.acos((rotation.trace() - 1) / 2))
    assert abs(float(angle) - degrees) < 0.1
    pupil = int(rest[:, 2].argmax())
    if axis == 0 and side == "right":
        sign = -sign  # out is to the subject's right, -x
    assert sign * float(turned[pupil, axis]) > 0.005


def test_skinning(model):
    weights = model.skinning_weights
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)), atol=1e-5, rtol=0)
    assert (weights >= 0).all()
    bound = {"scalp": "head", "teeth_upper": "head", "teeth_lower": "jaw", "tongue": "jaw"}
    bound |= {f"eyeball_{side}": f"eye_{side}" for side in SIDES}
    for region, joint in bound.items():
        assert (weights[model.regions[region], model.joint_index(joint)] > 0.999).all(), region
    face = weights[model.regions["face"]]
    assert float((face[:, 2] + face[:, 3]).min()) > 0.98


def test_jaw_joint_does_what_jaw_open_does(model):
    """A turn by the stated angle brings lower teeth and chin near to where the shape puts them."""
    rotations = torch.zeros(1, 6, 3)
    rotations[0, model.joint_index("jaw"), 0] = np.radians(model.provenance["jaw_open_degrees"])
    still = torch.zeros(1, len(model.identity_basis))
    turned = model.forward(still, None, rotations).vertices[0]
    opened = model.template + shape(model, "jawOpen")
    for region, tolerance in (("teeth_lower", 0.006), ("chin", 0.009)):
        mask = model.regions[region]
        assert float((opened - model.template)[mask].norm(dim=1).mean()) > 0.015
        assert float((turned - opened)[mask].norm(dim=1).mean()) < tolerance


def test_expressions_scale_with_the_head(model):
    identity = torch.zeros(1, len(model.identity_basis))
    identity[0, 0] = 2.0
    expression = torch.zeros(1, 52)
    expression[0, ARKIT_INDEX["jawOpen"]] = 1.0
    moved = model.rest_vertices(identity, expression) - model.rest_vertices(identity)
    scale = float(model.scale(identity)[0])
    assert abs(scale - 1) > 0.1
    torch.testing.assert_close(moved[0], scale * shape(model, "jawOpen"), atol=2e-6, rtol=0)


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path):
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(ASSET.read_bytes()[:5000])
    with pytest.raises(AssetError, match="cannot be read as a head model"):
        read_head(torn)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    with pytest.raises(AssetError, match="expected 'avatar3d.head' version 1"):
        read_head(foreign)


def test_a_smile_leaves_closed_lips_closed():
    """It widens the mouth and draws its corners back; the lower lip's edge rises as far as the upper one's."""
    model = load("head")
    names, e = list(model.expression_names), model.landmarks["mediapipe478"]
    smile = sum(model.expression_basis[names.index(f"mouthSmile{side}")].float() for side in ("Left", "Right"))
    moved = 1e3 * points_on_faces(smile, model.faces, e.faces, e.weights)
    for upper, lower in ((13, 14), (312, 317), (311, 402), (310, 318), (415, 324)):
        assert moved[upper, 1] - moved[lower, 1] < 0.3
    out, up, back = moved[291].tolist()
    assert out > 6 and 8 < up < 12 and back < -7


def test_side_teeth_keep_out_of_an_open_mouth(model):
    """With the jaw open their edges go down by more than the jaw takes their roots."""
    fall = -model.expression_basis[list(model.expression_names).index("jawOpen")][:, 1].float()
    lower = torch.nonzero(model.regions["teeth_lower"])[:, 0].view(-1, 6)  # columns from right to left, gum to inside
    column = lower[32]
    assert model.template[column[3], 0].abs() > 0.015
    assert fall[column[3]] - fall[column[0]] > 5e-3
    gaps = model.regions["teeth_gaps"]
    assert not (gaps & ~(model.regions["teeth_upper"] | model.regions["teeth_lower"])).any()
    assert gaps.sum() == 2 * 15 * 4  # both sides of 14 teeth, four vertices of the profile below the gums


def test_raised_brows_take_the_forehead_along():
    """Skin slides over the skull: brows go up by what coefficients are made for, and stay on the forehead."""
    model = load("head")
    rest, faces = model.template, model.faces.long()
    e = model.landmarks["mediapipe478"]

    def moved(name: str) -> torch.Tensor:
        row = model.expression_basis[model.expression_names.index(name)]
        return points_on_faces(row, faces, e.faces, e.weights) * 1e3

    inner, outer = moved("browInnerUp"), moved("browOuterUpRight")
    assert 6 < inner[107, 1] < 10 and 5.5 < outer[63, 1] < 10
    assert inner[108, 1] > 0.4 * inner[107, 1] and outer[104, 1] > 0.4 * outer[105, 1]  # above the brows
    assert inner[[159, 386], 1].abs().max() < 0.3  # the lids' edges stay
    assert outer[386:389].norm(dim=1).max() < 0.3 and inner[152].norm() == 0
    for name in ("browInnerUp", "browOuterUpLeft"):
        posed = rest + model.expression_basis[model.expression_names.index(name)]
        skin = model.regions["forehead"] | model.regions["brows"]
        assert nearest_on_mesh(posed[skin], rest, faces).distance.quantile(0.95) < 0.8e-3


def test_the_upper_lid_goes_up_with_the_gaze(model):
    for side in ("Left", "Right"):
        rim = model.regions[f"lid_margin_upper_{side.lower()}"]
        rise = model.expression_basis[model.expression_names.index(f"eyeLookUp{side}"), rim, 1].mean()
        assert 1.5e-3 < rise < 3.5e-3
