"""`avatar3d stabilize`, as a person and a machine use it."""

import json

import pytest
import torch

from avatar3d import models, storage
from avatar3d.cli.main import main
from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.models.mesh_file import read_mesh
from avatar3d.models.motion import head_rotation
from avatar3d.types import Motion


def write_obj(path, vertices, faces):
    rows = ["# a face"] + ["v {:.6f} {:.6f} {:.6f}".format(*v) for v in vertices.tolist()] + ["s off"]
    rows += ["f {} {} {}".format(*f) for f in (faces + 1).tolist()]
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    """Three frames in centimetres: at rest, turned with an open mouth, turned back with a smile."""
    folder = tmp_path_factory.mktemp("meshes")
    model = models.load("head")
    e = torch.zeros(3, 52)
    e[1, model.expression_names.index("jawOpen")] = 0.8
    e[2, model.expression_names.index("mouthSmileLeft")] = 0.9
    x = 100 * model.rest_vertices(0.5 * torch.ones(3, 160), e).double()
    R = rotvec_to_matrix(torch.tensor([[0.0, 0, 0], [0.1, 0.3, 0], [0, -0.2, 0.1]]).double())
    x = x @ R.mT + torch.tensor([[0.0, 0, 0], [1.5, 0, 2], [0, -3, 0]]).double()[:, None]
    seen = (model.template[:, 2] > 0.03).numpy()
    faces = model.faces[torch.from_numpy(seen)[model.faces].all(1)]
    paths = [folder / f"{name}.obj" for name in ("rest", "open", "smile")]
    for path, vertices in zip(paths, x, strict=True):
        write_obj(path, vertices, faces)
    return paths, R


def test_meshes_motion_picture_and_report(meshes, tmp_path, capsys):
    paths, R = meshes
    out = tmp_path / "still"
    assert main(["stabilize", *map(str, paths), "-o", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(p.name for p in out.iterdir()) == sorted(
        [p.name for p in paths] + ["motion.motion", "motion.png", "stabilize.json"]
    )
    for path in paths:  # rigid: all distances between vertices stay
        a, b = read_mesh(path), read_mesh(out / path.name)
        assert torch.equal(a.faces, b.faces)
        some = torch.arange(0, len(a.vertices), 50)
        torch.testing.assert_close(torch.cdist(b.vertices[some], b.vertices[some]),
                                   torch.cdist(a.vertices[some], a.vertices[some]), atol=2e-5, rtol=0)  # fmt: skip
    assert (out / "rest.obj").read_text().splitlines()[0] == "# a face"
    motion = storage.load(out / "motion.motion", Motion)
    off = matrix_to_rotvec(head_rotation(motion).mT @ R).norm(dim=1)
    assert torch.rad2deg(off).max() < 0.3
    assert motion.frames == 3 and motion.translation is not None and float(motion.translation.norm(dim=1).max()) < 0.2
    assert report["units"]["name"] == "centimetres" and report["anchor"] == "rest.obj"
    assert [f["name"] for f in report["frames"]] == [p.name for p in paths]
    assert report["frames"][0]["welded"] == 0
    assert (out / "motion.png").stat().st_size > 10_000


def test_a_folder_and_words_for_a_person(meshes, tmp_path, capsys):
    paths, _ = meshes
    assert main(["stabilize", str(paths[0].parent), "-o", str(tmp_path / "still"), "--method", "robust"]) == 0
    assert "3 meshes in centimetres" in capsys.readouterr().err


def spoilt(kind, meshes, tmp_path):
    paths, _ = meshes
    lines = paths[1].read_text().splitlines()
    path = tmp_path / "bad.obj"
    if kind == "fewer vertices":
        path.write_text("\n".join([line for line in lines if line[:1] != "f"][:40] + ["f 1 2 3"]) + "\n")
    elif kind == "other faces":
        path.write_text("\n".join(lines[:-1] + ["f 1 2 3"]) + "\n")
    elif kind == "nan":
        lines[5] = "v nan 0 0"
        path.write_text("\n".join(lines) + "\n")
    elif kind == "flat":
        path.write_text("\n".join("v 1 2 3" if line.startswith("v ") else line for line in lines) + "\n")
    return [paths[0]] if kind == "one mesh" else [paths[0], tmp_path / "none.obj" if kind == "missing" else path]


@pytest.mark.parametrize(
    "kind, words",
    [
        ("fewer vertices", "another topology"),
        ("other faces", "other faces"),
        ("nan", "not finite"),
        ("flat", "no surface"),
        ("one mesh", "two or more"),
        ("missing", "does not exist"),
    ],
)
def test_bad_input_is_one_clear_line(meshes, tmp_path, capsys, kind, words):
    out = tmp_path / "out" / "still"
    out.parent.mkdir()
    assert main(["stabilize", *map(str, spoilt(kind, meshes, tmp_path)), "-o", str(out)]) == (
        2 if kind == "one mesh" else 1
    )
    err = capsys.readouterr().err.strip()
    assert words in err and len(err.splitlines()) <= 2
    assert not list(out.parent.iterdir())


def test_a_few_faces_without_area_are_told_and_left(meshes, tmp_path, capsys):
    paths, _ = meshes
    for path in paths[:2]:
        lines = path.read_text().splitlines()
        (tmp_path / path.name).write_text("\n".join(lines + ["f 1 1 2"]) + "\n")
    out = tmp_path / "still"
    assert main(["stabilize", *(str(tmp_path / p.name) for p in paths[:2]), "-o", str(out)]) == 0
    assert "have no area" in capsys.readouterr().err
    assert (out / "motion.motion").exists()


def test_it_does_not_write_over_its_input(meshes, capsys):
    paths, _ = meshes
    before = paths[0].read_bytes()
    assert main(["stabilize", *map(str, paths), "-o", str(paths[0].parent)]) == 1
    assert "give another folder" in capsys.readouterr().err
    assert paths[0].read_bytes() == before


def test_no_arguments(capsys):
    assert main(["stabilize"]) == 2
