"""A model comes to lie on a scan of known truth, whatever the scan's units, axes, holes and noise."""

import math
from dataclasses import replace

import pytest
import torch

from avatar3d import models
from avatar3d.errors import TrackingError
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces, vertex_normals
from avatar3d.models.registration import find_units, register
from avatar3d.models.registration_freeform import flipped_faces, unfolded
from avatar3d.models.registration_measure import measure_surface
from avatar3d.models.registration_parts import model_parts
from avatar3d.models.scan_samples import sample_scan
from avatar3d.types.mesh import Mesh

SCHEME = "mediapipe478"


@pytest.fixture(scope="module")
def head():
    torch.set_num_threads(1)
    return models.load("head")


def person(head, seed=3):
    """Vertices of somebody whom the identity space does not hold: a random identity and a bump on the nose."""
    rng = torch.Generator().manual_seed(seed)
    identity = 0.7 * torch.randn(len(head.identity_basis), generator=rng)
    v = head.rest_vertices(identity[None])[0]
    nose = v[head.regions["nose"]]
    tip = nose[nose[:, 2].argmax()]
    bump = 0.003 * torch.exp(-((v - tip).norm(dim=1) / 0.02).square())
    return v + bump[:, None] * vertex_normals(v, head.faces)


def as_scan(head, v, *, unit=0.001, turn=(math.pi / 2, 0.0, 0.0), shift=40.0, holes=True):
    """The visible skin of a head without its back, in another unit, lying on its back, with holes."""
    parts = model_parts(head)
    keep = ~parts.interior[head.faces].any(1) & (v[head.faces][:, :, 2] > -0.02).all(1)
    if holes:
        spots = torch.tensor([[0.04, -0.02, 0.09], [-0.05, 0.07, 0.08]])
        keep &= ((v[head.faces][:, :, None] - spots).norm(dim=3) > 0.01).all(2).all(1)
    R = rotvec_to_matrix(torch.tensor(turn).double())
    vertices = v.double() @ R.T / unit + shift
    e = head.landmarks[SCHEME]
    landmarks = points_on_faces(vertices, head.faces, e.faces, e.weights)
    return Mesh(vertices=vertices, faces=head.faces[keep], name="scan.ply"), landmarks


@pytest.fixture(scope="module")
def registered(head):
    truth = person(head)
    scan, landmarks = as_scan(head, truth)
    sigma = torch.full((478,), 0.005)
    sigma[468:] = torch.inf
    return truth, scan, register(head, scan, landmarks, sigma, head.landmarks[SCHEME], samples=15_000)


def test_units_and_axes_are_found(registered):
    _, _, r = registered
    assert r.units.name == "mm" and r.units.metres == 0.001
    up = r.T_model_scan[1, :3] * 1000
    assert up[2] > 0.99  # what is up lay along z
    assert abs(float(torch.linalg.det(r.T_model_scan[:3, :3])) - 1e-9) < 1e-11  # a known unit is kept to


def test_surface_and_vertices_are_found(head, registered):
    truth, scan, r = registered
    points = (scan.vertices[scan.faces.unique()] @ r.T_model_scan[:3, :3].T + r.T_model_scan[:3, 3]).float()
    parts = model_parts(head)
    after, before = (measure_surface(head, parts, v, points)["face"] for v in (r.vertices, r.coefficients_only))
    assert after.median < 0.1 and after.p95 < 0.5
    assert after.median < before.median < 1.0
    # not only the surface: the vertices lie where the person's do, up to the pose
    face = head.regions["face"]
    T = torch.linalg.lstsq(torch.cat([truth[face], torch.ones(int(face.sum()), 1)], 1), r.vertices[face]).solution
    off = (torch.cat([truth[face], torch.ones(int(face.sum()), 1)], 1) @ T - r.vertices[face]).norm(dim=1)
    assert off.median() < 0.0012


def test_nothing_turns_over_and_the_neutral_is_the_scan(head, registered):
    _, _, r = registered
    assert r.flipped == 0
    assert not r.expression.any()  # a face at rest
    neutral = head.rest_vertices(r.identity[None])[0] + r.offsets
    torch.testing.assert_close(neutral, r.vertices, atol=1e-5, rtol=0)


def test_what_was_not_scanned_follows_smoothly(head, registered):
    truth, _, r = registered
    back = truth[:, 2] < -0.05
    assert r.offsets[back].norm(dim=1).max() < 0.02
    e = torch.cat([head.faces[:, [0, 1]], head.faces[:, [1, 2]]])
    e = e[back[e].all(1)]
    stretch = (r.vertices[e[:, 0]] - r.vertices[e[:, 1]]).norm(dim=1) / (truth[e[:, 0]] - truth[e[:, 1]]).norm(dim=1)
    assert 0.5 < stretch.min() and stretch.max() < 1.7


def test_eyeballs_stay_behind_their_lids_and_keep_their_shape(head, registered):
    _, _, r = registered
    for side in ("left", "right"):
        ball = head.regions[f"eyeball_{side}"]
        before, after = r.coefficients_only[ball], r.vertices[ball]
        shift = (after - before).mean(0)
        torch.testing.assert_close(after - before, shift.expand(len(after), 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(r.joint_offsets[head.joint_index(f"eye_{side}")], shift, atol=2e-3, rtol=0)
        centre = 0.5 * (after.amax(0) + after.amin(0))
        radius = (after - centre).norm(dim=1).median()
        lids = head.regions[f"eyelids_{side}"] & ~head.regions[f"eye_socket_{side}"]
        inside = radius - (r.vertices[lids] - centre).norm(dim=1)
        was = radius - (r.coefficients_only[lids] - centre + shift).norm(dim=1)
        assert (inside > torch.maximum(was, torch.tensor(0.0)) + 0.0015).float().mean() < 0.05


@pytest.mark.parametrize(
    "metres, name", [(1.04, "m"), (0.0097, "cm"), (0.00094, "mm"), (0.0262, "in"), (0.055, "unknown"), (7.0, "unknown")]
)
def test_units(metres, name):
    units = find_units(metres)
    assert units.name == name
    assert abs(units.metres * units.size / metres - 1) < 1e-9 or name != "unknown"


def test_noise_and_borders_are_seen(head):
    scan, _ = as_scan(head, head.template, unit=1.0, turn=(0.0, 0.0, 0.0), shift=0.0)
    rng = torch.Generator().manual_seed(0)
    rough = replace(scan, vertices=scan.vertices + 1e-3 * torch.randn(scan.vertices.shape, generator=rng).double())
    T, centre = torch.eye(4).double(), torch.tensor([0.0, 0.0, 0.06])
    smooth, noisy = (sample_scan(s, T, centre, count=8000) for s in (scan, rough))
    assert noisy.noise > 2 * smooth.noise
    assert 0.01 < smooth.border.float().mean() < 0.4
    outwards = smooth.points - torch.tensor([0.0, 0.0, 0.02])
    assert ((smooth.normals * outwards).sum(1) > 0).float().mean() > 0.85
    assert abs(float(smooth.area.sum()) - float(noisy.area.sum())) < 0.6 * float(noisy.area.sum())


def test_folds_are_smoothed_out(head):
    parts = model_parts(head)
    moved = torch.zeros_like(head.template)
    spot = head.regions["cheeks"].nonzero()[0, 0]
    moved[spot] = torch.tensor([0.02, 0.01, 0.0])
    assert flipped_faces(head.template, head.template + moved, head.faces).any()
    smooth, touched = unfolded(head.template, moved, parts, head.faces.long())
    assert not flipped_faces(head.template, head.template + smooth, head.faces).any()
    assert touched[spot] and touched.sum() < 200


def test_landmarks_of_no_face(head):
    scan, landmarks = as_scan(head, head.template)
    known = torch.full((478,), torch.inf)
    known[:4] = 0.01
    with pytest.raises(TrackingError, match="at least 6"):
        register(head, scan, landmarks, known, head.landmarks[SCHEME])
    with pytest.raises(TrackingError, match="points of surface"):
        register(head, scan, landmarks + 5000, torch.full((478,), 0.01), head.landmarks[SCHEME])
