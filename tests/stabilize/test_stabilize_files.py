"""Files moved rigidly."""

import numpy as np
import pytest
import torch
import trimesh

from avatar3d.errors import FormatError
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.transform import apply, make_transform
from avatar3d.models.mesh_file import read_mesh
from avatar3d.models.mesh_sequence import read_mesh_sequence
from avatar3d.stabilize.files import copy_materials, move_arrays, move_file

T = make_transform(rotvec_to_matrix(torch.tensor([0.3, -0.2, 0.5])), torch.tensor([1.0, 2.0, -3.0])).double()
OBJ = (
    b"# made by hand\r\nmtllib face.mtl\r\no face\r\nv 0 0 0 0.5 0.25 1\r\nv 1 0 0 0 0 0\r\nv 0 1.5 0 1 1 1\r\n"
    b"vt 0 1\r\nvt 1 1\r\nvt 0 0\r\nvn 0 0 1\r\nusemtl skin\r\nf 1/1/1 2/2/1 3/3/1\r\n"
)


def test_obj_keeps_everything_but_positions_and_normals(tmp_path):
    source, target = tmp_path / "a.obj", tmp_path / "b.obj"
    source.write_bytes(OBJ)
    move_file(source, target, T)
    before, after = OBJ.split(b"\r\n"), target.read_bytes().split(b"\r\n")
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        if a.startswith((b"v ", b"vn ")):
            assert a.split()[4:] == b.split()[4:]
        else:
            assert a == b
    expected = apply(T, read_mesh(source).vertices)
    torch.testing.assert_close(read_mesh(target).vertices, expected, atol=1e-7, rtol=0)
    normal = [float(x) for x in next(line for line in after if line.startswith(b"vn")).split()[1:]]
    torch.testing.assert_close(torch.tensor(normal).double(), T[:3, 2], atol=1e-7, rtol=0)


def test_materials_and_their_pictures_come_along(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "a.obj").write_bytes(OBJ)
    (tmp_path / "face.mtl").write_bytes(b"newmtl skin\nmap_Kd -s 1 1 1 skin.png\nmap_Bump ../secret.png\n")
    (tmp_path / "skin.png").write_bytes(b"a picture")
    copy_materials(tmp_path / "a.obj", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["face.mtl", "skin.png"]


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_ply(tmp_path, encoding):
    mesh = trimesh.creation.icosphere(subdivisions=1)
    mesh.visual.vertex_colors = np.arange(len(mesh.vertices) * 4, dtype=np.uint8).reshape(-1, 4)
    source, target = tmp_path / "a.ply", tmp_path / "b.ply"
    source.write_bytes(mesh.export(file_type="ply", encoding=encoding, vertex_normal=True))
    move_file(source, target, T)
    a, b = read_mesh(source), read_mesh(target)
    torch.testing.assert_close(b.vertices, apply(T, a.vertices), atol=1e-6, rtol=0)
    assert torch.equal(a.faces, b.faces) and torch.equal(a.colours, b.colours)


def test_glb_is_moved_by_a_node(tmp_path):
    source, target = tmp_path / "a.glb", tmp_path / "b.glb"
    source.write_bytes(trimesh.creation.icosphere(subdivisions=1).export(file_type="glb"))
    move_file(source, target, T)
    a, b = read_mesh(source), read_mesh(target)
    torch.testing.assert_close(b.vertices, apply(T, a.vertices), atol=1e-6, rtol=0)


def test_arrays(tmp_path):
    frames = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", vertices=frames, faces=np.array([[0, 1, 2]]), fps=25.0)
    move_arrays(tmp_path / "a.npz", tmp_path / "b.npz", torch.stack([torch.eye(4).double(), T]))
    back = read_mesh_sequence(tmp_path / "b.npz")
    torch.testing.assert_close(back.vertices[0], torch.from_numpy(frames[0]))
    torch.testing.assert_close(back.vertices[1].double(), apply(T, torch.from_numpy(frames[1]).double()),
                               atol=1e-6, rtol=0)  # fmt: skip
    assert back.fps == 25 and torch.equal(back.faces, torch.tensor([[0, 1, 2]]))


def test_other_kinds_and_damage_are_told(tmp_path):
    (tmp_path / "a.stl").write_bytes(b"solid")
    with pytest.raises(FormatError, match="a.stl: .stl files cannot be written; use .glb, .obj, .ply"):
        move_file(tmp_path / "a.stl", tmp_path / "b.stl", T)
    (tmp_path / "a.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\n")
    with pytest.raises(FormatError, match="a.ply cannot be moved: no PLY header"):
        move_file(tmp_path / "a.ply", tmp_path / "b.ply", T)
    assert not (tmp_path / "b.ply").exists()
