"""Mesh files of every kind come in as they are, and what is wrong with one is said in one line."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from avatar3d.errors import FileError, FormatError
from avatar3d.models.mesh_file import natural_key, read_mesh
from avatar3d.models.mesh_sequence import read_mesh_sequence

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def ball(rng):
    mesh = trimesh.creation.icosphere(subdivisions=2)
    order = torch.randperm(len(mesh.vertices), generator=rng).numpy()
    back = np.argsort(order)
    return trimesh.Trimesh(mesh.vertices[order], back[mesh.faces], process=False)


@pytest.mark.parametrize("kind", ["obj", "ply", "off", "glb"])
def test_vertices_keep_their_order(ball, tmp_path, kind):
    ball.export(tmp_path / f"a.{kind}")
    mesh = read_mesh(tmp_path / f"a.{kind}")
    np.testing.assert_allclose(mesh.vertices.numpy(), ball.vertices, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces.numpy(), ball.faces)


def test_stl_corners_are_joined(ball, tmp_path):
    ball.export(tmp_path / "a.stl")
    mesh = read_mesh(tmp_path / "a.stl")
    assert mesh.vertices.shape == ball.vertices.shape
    np.testing.assert_allclose(mesh.vertices[mesh.faces].numpy(), ball.vertices[ball.faces], atol=1e-6)


def test_polygons_texture_and_colours_of_obj(tmp_path):
    Image.new("RGB", (4, 2), (200, 100, 50)).save(tmp_path / "skin one.png")
    write(tmp_path / "m.mtl", "newmtl a\nmap_Kd -s 1 1 1 skin one.png\n")
    text = "mtllib m.mtl\nusemtl a\nv 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 1 1 0 0 0 1\nv 0 1 0 0 0 0\nv -1 0.5 0 1 1 1\n"
    mesh = read_mesh(write(tmp_path / "a.obj", text + "vt 0 0\nvt 1 1\nf 1/1 2/2 3/1 4/2 5/1\nf -1/1 -5/2 -4/1\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 3, 4], [4, 0, 1]]
    assert mesh.uv_faces.tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0]]
    assert mesh.texture.shape == (2, 4, 3) and mesh.texture[0, 0].tolist() == [200, 100, 50]
    assert mesh.colours[1].tolist() == [0, 255, 0]


def test_faces_may_mix_their_notation(tmp_path):
    mesh = read_mesh(write(tmp_path / "a.obj", SQUARE + "vt 0 0\nvn 0 0 1\nf 1//1 2/1 3\nf 1/1/1 3 4\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]] and mesh.uv_faces is None


def test_two_textures_become_one(tmp_path):
    for name, colour in (("a", (250, 0, 0)), ("b", (0, 0, 250))):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    write(tmp_path / "m.mtl", "newmtl a\nmap_Kd a.png\nnewmtl b\nmap_Kd b.png\n")
    faces = "vt 0.5 0.5\nusemtl a\nf 1/1 2/1 3/1\nusemtl b\nf 1/1 3/1 4/1\n"
    mesh = read_mesh(write(tmp_path / "a.obj", "mtllib m.mtl\n" + SQUARE + faces))
    size = torch.tensor(mesh.texture.shape[:2])
    for face, colour in ((0, [250, 0, 0]), (1, [0, 0, 250])):
        u, v = mesh.uvs[mesh.uv_faces[face, 0]]
        assert mesh.texture[int((1 - v) * size[0]), int(u * size[1])].tolist() == colour


def test_nodes_place_the_meshes_of_a_glb(ball, tmp_path):
    scene = trimesh.Scene()
    T = np.eye(4)
    T[:3, 3] = 5
    scene.add_geometry(ball, node_name="a")
    scene.add_geometry(ball.copy(), node_name="b", transform=T)
    scene.export(tmp_path / "a.glb")
    mesh = read_mesh(tmp_path / "a.glb")
    assert len(mesh.vertices) == 2 * len(ball.vertices)
    np.testing.assert_allclose(mesh.vertices[len(ball.vertices) :].numpy(), ball.vertices + 5, atol=1e-5)


def test_draco(ball, tmp_path):
    draco = pytest.importorskip("DracoPy")
    assert draco
    from trimesh.exchange.gltf import export_glb

    (tmp_path / "a.glb").write_bytes(export_glb(trimesh.Scene(ball), extension_draco=True))
    mesh = read_mesh(tmp_path / "a.glb")
    assert len(mesh.faces) == len(ball.faces)
    spread = np.abs(np.linalg.norm(mesh.vertices.numpy(), axis=1) - 1)
    assert spread.max() < 1e-3


def test_point_clouds(tmp_path, rng):
    points = torch.randn(20, 3, generator=rng, dtype=torch.float64).numpy()
    trimesh.PointCloud(points, colors=np.full((20, 4), 77, dtype=np.uint8)).export(tmp_path / "a.ply")
    np.savetxt(tmp_path / "a.xyz", points)
    np.savez(tmp_path / "a.npz", vertices=points)
    for name in ("a.ply", "a.xyz", "a.npz"):
        mesh = read_mesh(tmp_path / name)
        assert mesh.is_cloud
        np.testing.assert_allclose(mesh.vertices.numpy(), points, atol=1e-6)
    assert read_mesh(tmp_path / "a.ply").colours[3].tolist() == [77, 77, 77]


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("a.obj", "", "0 bytes"),
        ("a.obj", "# nothing\n", "no vertices"),
        ("a.obj", SQUARE.replace("1 1 0", "nan 1 0") + "f 1 2 3\n", "not finite"),
        ("a.obj", SQUARE + "f 1 2 9\n", "not there"),
        ("a.obj", SQUARE + "f 1 2\n", "cut off"),
        ("a.obj", "v 0 0 zero\nf 1 1 1\n", "no numbers"),
        ("a.ply", "hello", "does not begin"),
        ("a.glb", b"glTF\2\0\0\0", "cannot be read as GLB"),
        ("a.stl", "solid\nendsolid\n", "no meshes"),
        ("a.mug", "x", "expected one of"),
        ("a.npz", "x", "numpy"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, content, text):
    with pytest.raises(FormatError, match=text):
        read_mesh(write(tmp_path / name, content))


def test_cut_off_ply(ball, tmp_path):
    data = ball.export(file_type="ply")
    with pytest.raises(FormatError, match="cut off"):
        read_mesh(write(tmp_path / "a.ply", data[: len(data) // 2]))


def test_missing_file(tmp_path):
    with pytest.raises(FileError, match="cannot be read"):
        read_mesh(tmp_path / "a.obj")


def test_sequence_of_a_folder(ball, tmp_path):
    for i in (10, 2, 1):
        trimesh.Trimesh(ball.vertices + i, ball.faces, process=False).export(tmp_path / f"f{i}.obj")
    sequence = read_mesh_sequence(tmp_path)
    assert sequence.names == ("f1.obj", "f2.obj", "f10.obj")
    torch.testing.assert_close(
        (sequence.vertices - sequence.vertices[0]).mean((1, 2)), torch.tensor([0.0, 1.0, 9.0]), atol=1e-5, rtol=0
    )
    np.savez(tmp_path / "s.npz", vertices=sequence.vertices.numpy(), faces=ball.faces, fps=25)
    again = read_mesh_sequence(tmp_path / "s.npz")
    assert (
        again.fps == 25 and torch.equal(again.vertices, sequence.vertices) and torch.equal(again.faces, sequence.faces)
    )


def test_a_folder_of_several_kinds_is_not_guessed_at(ball, tmp_path):
    ball.export(tmp_path / "a.obj")
    np.savez(tmp_path / "beside.npz", notes=np.zeros(3))
    assert read_mesh_sequence(tmp_path).names == ("a.obj",)
    ball.export(tmp_path / "b.ply")
    with pytest.raises(FormatError, match=r"several kinds \(\.obj, \.ply\)"):
        read_mesh_sequence(tmp_path)


def test_other_topology_in_a_sequence(ball, tmp_path):
    ball.export(tmp_path / "f1.obj")
    trimesh.creation.icosphere(subdivisions=1).export(tmp_path / "f2.obj")
    with pytest.raises(FormatError, match="f2.obj .42 vertices, 80 faces. has another topology"):
        read_mesh_sequence(tmp_path)
    trimesh.Trimesh(ball.vertices, ball.faces[::-1], process=False).export(tmp_path / "f2.obj")
    with pytest.raises(FormatError, match="other faces"):
        read_mesh_sequence(tmp_path)


def test_natural_order():
    assert sorted(["a10.obj", "a9.obj", "A1.obj"], key=natural_key) == ["A1.obj", "a9.obj", "a10.obj"]
