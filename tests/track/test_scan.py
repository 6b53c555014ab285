"""The face on a scan is found from any side, and what is no face is not taken for one."""

import json
import math

import numpy as np
import pytest
import torch
import trimesh

from avatar3d.errors import DetectionError, FormatError
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces
from avatar3d.models.paint import Palette, paint
from avatar3d.track.scan import find_landmarks
from avatar3d.track.scan_landmarks import read_landmarks
from avatar3d.track.scan_pictures import camera_axes, draw, make_drawable
from avatar3d.types.mesh import Mesh

SCHEME = "mediapipe478"


def painted(head, turn=(0.0, 0.0, 0.0), unit=1.0):
    R = rotvec_to_matrix(torch.tensor(turn).double())
    vertices = head.template.double() @ R.T / unit
    colours = (paint(head, Palette()) * 255).round().to(torch.uint8)
    return Mesh(vertices=vertices, faces=head.faces, colours=colours, name="somebody.ply")


def test_landmarks_from_any_side(head):
    mesh = painted(head, turn=(1.9, -0.8, 1.1), unit=0.0254)
    found = find_landmarks(mesh, head)
    e = head.landmarks[SCHEME]
    truth = points_on_faces(mesh.vertices, head.faces, e.faces, e.weights)
    known = torch.isfinite(found.points).all(1) & (e.residual < 0.04)
    off = (found.points - truth)[known].norm(dim=1) * 0.0254
    assert known.sum() > 250 and found.views >= 7
    assert off.median() < 0.003 and off.quantile(0.9) < 0.009
    assert found.sigma[known].median() < 0.05


def test_a_box_has_no_face(head):
    box = trimesh.creation.box(extents=(1, 2, 3)).subdivide()
    mesh = Mesh(vertices=torch.tensor(box.vertices), faces=torch.tensor(box.faces).long(), name="box.obj")
    with pytest.raises(DetectionError, match="No face was found on box.obj"):
        find_landmarks(mesh, head)


def test_hardly_anything_has_no_face(head):
    few = Mesh(vertices=torch.eye(3).double(), faces=torch.tensor([[0, 1, 2]]))
    with pytest.raises(DetectionError):
        find_landmarks(few, head)
    with pytest.raises(DetectionError):
        find_landmarks(Mesh(vertices=torch.eye(3).double()), head)


@pytest.mark.parametrize("cloud", [False, True])
def test_pixels_are_lifted_to_where_they_come_from(head, cloud):
    mesh = painted(head, unit=0.001)
    if cloud:
        ball = trimesh.creation.icosphere(subdivisions=5, radius=90)
        mesh = Mesh(vertices=torch.tensor(ball.vertices).double())
    scan = make_drawable(mesh)
    picture = draw(
        scan, camera_axes(torch.tensor([0.3, 0.1, 1.0]), torch.tensor([0.0, 1, 0])), torch.zeros(3), 0.5, 200
    )
    pixels = torch.tensor([[100.5, 95.5], [90.5, 110.5], [2.5, 2.5]])
    points, facing = picture.lift(pixels)
    assert torch.isnan(points[2]).all() and facing[2] == 0
    torch.testing.assert_close(picture.pixels_of(points[:2]), pixels[:2], atol=0.8, rtol=0)
    if cloud:
        lifted = scan.to_scan(points[:2])
        assert (lifted.norm(dim=1) - 90).abs().max() < 1.5
    assert facing[0] > 0.6


def sixty_eight(head):
    e = head.landmarks["ibug68"]
    R = rotvec_to_matrix(torch.tensor([0.3, 1.0, -0.2]).double())
    return (points_on_faces(head.template.double(), head.faces, e.faces, e.weights) @ R.T * 100 + 7).numpy()


def test_landmark_files(head, tmp_path):
    points = sixty_eight(head)
    np.save(tmp_path / "a.npy", points)
    np.save(tmp_path / "b.npy", points[17:])
    np.savetxt(tmp_path / "c.txt", points)
    marks = "".join(f'<point x="{x}" y="{y}" z="{z}" active="1" name="{i}"/>' for i, (x, y, z) in enumerate(points))
    (tmp_path / "d.pp").write_text(f"<!DOCTYPE PickedPoints><PickedPoints>{marks}</PickedPoints>")
    for name in ("a.npy", "b.npy", "c.txt", "d.pp"):
        found = read_landmarks(tmp_path / name, head)
        np.testing.assert_allclose(found.points[17:].numpy(), points[17:], atol=1e-6)
        assert math.isinf(found.sigma[0]) == (name == "b.npy") and found.scheme == "ibug68"


def test_labelled_groups_of_any_order(head, tmp_path):
    points = sixty_eight(head)
    groups = [("chin", 0, 17), ("leye", 36, 42), ("reye", 42, 48), ("leyebrow", 17, 22), ("nose", 27, 36),
              ("reyebrow", 22, 27), ("mouth", 48, 68)]  # fmt: skip
    for swapped in (False, True):  # eyes named from either side
        order = list(groups)
        if swapped:
            order[1], order[2], order[3], order[5] = groups[2], groups[1], groups[5], groups[3]
        rows, labels = [], []
        for name, first, last in order:
            labels.append({"label": name, "mask": list(range(len(rows), len(rows) + last - first))})
            rows += points[first:last].tolist()
        content = {"groups": {"LJSON": {"landmarks": {"points": rows}, "labels": labels}}, "version": 3}
        (tmp_path / "a.ljson").write_text(json.dumps(content))
        np.testing.assert_allclose(read_landmarks(tmp_path / "a.ljson", head).points.numpy(), points, atol=1e-9)


@pytest.mark.parametrize(
    "name, rows, text",
    [("a.npy", 12, "68 or 51 landmarks"), ("a.npy", 68, "do not lie"), ("a.png", 68, "expected one")],
)
def test_what_are_no_landmarks(head, tmp_path, rng, name, rows, text):
    with (tmp_path / name).open("wb") as file:
        np.save(file, torch.randn(rows, 3, generator=rng).numpy())
    with pytest.raises(FormatError, match=text):
        read_landmarks(tmp_path / name, head)
