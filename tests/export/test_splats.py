"""Splats in files: what was written comes back, through our readers and through others'."""

import gzip
import importlib.util
import json
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rig_factory import make_avatar, make_gaussians, make_motion

from avatar3d.errors import ExportError, FormatError
from avatar3d.export import export
from avatar3d.export.film import FilmSettings, film
from avatar3d.export.picture import front_camera
from avatar3d.export.splat_check import Tolerance, check_cloud
from avatar3d.export.splat_frame import cloud_of_frame, draw_splats, posed_splats
from avatar3d.export.splat_glb import EXTENSION, read_splat_glb, write_splat_glb
from avatar3d.export.splat_ply import write_splat_ply
from avatar3d.export.spz import read_spz, write_spz
from avatar3d.geometry.rotation import quat_to_matrix
from avatar3d.models.splat_cloud import SH_C0, SplatCloud
from avatar3d.models.splat_ply import read_splat_ply
from avatar3d.render.splats import render_gaussians
from avatar3d.storage import save


def make_cloud(n: int = 300, degree: int = 2, *, reach: float = 0.2) -> SplatCloud:
    r = np.random.default_rng(0)
    quats = r.standard_normal((n, 4))
    return SplatCloud(
        means=(reach * r.uniform(-1, 1, (n, 3))).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        scales=np.exp(r.uniform(-9, -4, (n, 3))).astype(np.float32),
        opacities=r.uniform(0.01, 0.99, n).astype(np.float32),
        sh=r.uniform(-0.9, 0.9, (n, (degree + 1) ** 2, 3)).astype(np.float32),
    )


def splat_avatar(degree: int = 2):
    avatar = make_avatar(make_motion(frames=6))
    return replace(avatar, gaussians=make_gaussians(avatar.rig, 150, degree=degree))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", ["ply", "spz", "glb"])
def test_round_trip(tmp_path, suffix, degree):
    write, read = {"ply": (write_splat_ply, read_splat_ply), "spz": (write_spz, read_spz),
                   "glb": (write_splat_glb, read_splat_glb)}[suffix]  # fmt: skip
    cloud, path = make_cloud(degree=degree), tmp_path / f"a.{suffix}"
    write(cloud, path)
    back = read(path)
    packed = suffix == "spz"
    assert np.abs(back.means - cloud.means).max() <= (2**-21 if packed else 0)
    assert np.abs(np.log(back.scales / cloud.scales)).max() < (1 / 31 if packed else 1e-5)
    assert np.abs(back.opacities - cloud.opacities).max() < (1 / 500 if packed else 1e-5)
    assert np.abs(back.sh[:, :1] - cloud.sh[:, :1]).max() <= (0.5 / (0.15 * 255) * 1.01 if packed else 0)
    assert np.abs(back.sh[:, 1:] - cloud.sh[:, 1:]).max(initial=0) <= (1 / 256 * 1.01 if packed else 0)
    a, b = (quat_to_matrix(torch.from_numpy(c.quats).double()) for c in (back, cloud))
    assert (a - b).abs().max() < (0.01 if packed else 1e-5)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_ply_is_in_the_layout_of_3dgs(tmp_path):
    cloud = make_cloud(2, 1)
    write_splat_ply(cloud, tmp_path / "a.ply")
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)
    names = [line.split()[-1] for line in header.decode().splitlines() if line.startswith("property float")]
    assert " ".join(names) == (
        "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 f_rest_0 f_rest_1 f_rest_2 f_rest_3 f_rest_4 f_rest_5 f_rest_6 f_rest_7 "
        "f_rest_8 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    )
    row = dict(zip(names, struct.unpack(f"<{len(names)}f", body[4 * len(names) :]), strict=True))
    assert row["f_rest_0"] == cloud.sh[1, 1, 0] and row["f_rest_3"] == cloud.sh[1, 1, 1]
    assert row["scale_1"] == pytest.approx(math.log(cloud.scales[1, 1]), rel=1e-6)
    assert 1 / (1 + math.exp(-row["opacity"])) == pytest.approx(cloud.opacities[1], rel=1e-5)
    assert row["rot_0"] == cloud.quats[1, 0] and row["nx"] == 0


def test_spz_by_hand(tmp_path):
    """One splat whose every byte is worked out from the format's description."""
    half = math.sqrt(0.5)
    cloud = SplatCloud(
        means=np.float32([[0.5, -0.25, 0]]), quats=np.float32([[half, 0, -half, 0]]), opacities=np.float32([0.5]),
        scales=np.exp(np.float32([[-10, -6, -9.5]])), sh=np.float32([[[0, 1, -1]]]),
    )  # fmt: skip
    write_spz(cloud, tmp_path / "a.spz")
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    assert struct.unpack_from("<IIIBBBB", data) == (0x5053474E, 3, 1, 0, 20, 0, 0)
    assert data[16:25] == bytes([0, 0, 8, 0, 0, 252, 0, 0, 0]) and data[25] in (127, 128)
    assert data[26:29] == bytes([128, 166, 89]) and data[29:32] == bytes([0, 64, 8])
    (packed,) = struct.unpack_from("<I", data, 32)  # x y z w = (0, -h, 0, h): y and w are equally large
    assert packed in (1 << 30 | 512 | 511, 3 << 30 | 1023 << 10)
    assert len(data) == 36


def test_spz_of_large_scenes_and_of_what_it_cannot_say(tmp_path):
    write_spz(make_cloud(reach=900.0), tmp_path / "a.spz")
    assert np.abs(read_spz(tmp_path / "a.spz").means - make_cloud(reach=900.0).means).max() < 1e-3
    odd = make_cloud(4)
    odd.scales[0], odd.opacities[:2], odd.sh[1, 2] = 1e-9, (0.0, 1.0), 5.0
    write_spz(odd, tmp_path / "b.spz")
    back = read_spz(tmp_path / "b.spz")
    assert back.scales[0, 0] == pytest.approx(math.exp(-10)) and back.opacities[:2] == pytest.approx(
        [1 / 255, 254 / 255]
    )
    assert (back.sh[1, 2] == 127 / 128).all()
    with pytest.raises(ValueError, match="more than SPZ holds"):
        write_spz(make_cloud(reach=1e4), tmp_path / "c.spz")


def test_glb_says_what_the_extension_asks_for(tmp_path):
    cloud = make_cloud(5, 1)
    write_splat_glb(cloud, tmp_path / "a.glb", {"frame": 3})
    data = (tmp_path / "a.glb").read_bytes()
    document = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
    (primitive,) = document["meshes"][0]["primitives"]
    assert document["extensionsUsed"] == [EXTENSION] and primitive["mode"] == 0
    assert document["asset"]["extras"] == {"frame": 3}
    assert primitive["extensions"][EXTENSION] == {
        "kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }  # fmt: skip
    types = {name: document["accessors"][i]["type"] for name, i in primitive["attributes"].items()}
    assert types == {
        "POSITION": "VEC3", "COLOR_0": "VEC4", f"{EXTENSION}:ROTATION": "VEC4", f"{EXTENSION}:SCALE": "VEC3",
        f"{EXTENSION}:OPACITY": "SCALAR", f"{EXTENSION}:SH_DEGREE_0_COEF_0": "VEC3",
    } | {f"{EXTENSION}:SH_DEGREE_1_COEF_{m}": "VEC3" for m in range(3)}  # fmt: skip
    position = document["accessors"][primitive["attributes"]["POSITION"]]
    np.testing.assert_array_equal(np.float32(position["min"]), cloud.means.min(0))
    with pytest.raises(ValueError, match="glTF cannot hold none"):
        write_splat_glb(make_cloud(0), tmp_path / "b.glb")


def test_empty_clouds(tmp_path):
    write_splat_ply(make_cloud(0), tmp_path / "a.ply")
    write_spz(make_cloud(0), tmp_path / "a.spz")
    assert read_splat_ply(tmp_path / "a.ply").sh.shape == read_spz(tmp_path / "a.spz").sh.shape == (0, 9, 3)


def test_a_frame_of_an_avatar(tmp_path):
    avatar = splat_avatar()
    cloud = cloud_of_frame(avatar, avatar.motion, 4)
    for suffix, read in ((".ply", read_splat_ply), (".spz", read_spz), (".glb", read_splat_glb)):
        back = read(export(avatar, tmp_path / f"me{suffix}", frame=4))
        assert len(back.means) == 150 and np.abs(back.means - cloud.means).max() < 1e-6
        np.testing.assert_allclose(back.bounds, cloud.bounds, atol=1e-6)
    first = read_splat_ply(export(avatar, tmp_path / "first.ply"))
    np.testing.assert_array_equal(first.means, cloud_of_frame(avatar, avatar.motion, 0).means)
    still = read_splat_ply(export(avatar, tmp_path / "still.ply", "none"))
    np.testing.assert_array_equal(still.means, cloud_of_frame(avatar, None, 0).means)
    with pytest.raises(ValueError, match="frame 6 of 6; they count from 0"):
        export(avatar, tmp_path / "no.ply", frame=6)


def test_without_a_frame_a_glb_is_the_animated_mesh(tmp_path):
    export(splat_avatar(), tmp_path / "me.glb")
    with pytest.raises(FormatError, match=f"holds no {EXTENSION}"):
        read_splat_glb(tmp_path / "me.glb")


def test_avatars_without_splats(tmp_path):
    avatar = make_avatar(make_motion(frames=3))
    with pytest.raises(FormatError, match="me.ply holds no splats: it lacks f_dc_0"):
        read_splat_ply(export(avatar, tmp_path / "me.ply"))
    for name in ("a.spz", "a.glb", "a.ply"):
        with pytest.raises(ValueError, match=f"{name}: frames of splats go into .ply, .spz and .glb"):
            export(avatar, tmp_path / name, frame=0)


def test_colours_in_the_file_are_those_that_the_head_shows(tmp_path):
    """View dependence turns with the head: seen along the same direction of the head, a colour is the same."""
    from avatar3d.geometry.harmonics import SPLAT_SIGNS, sh_basis
    from avatar3d.models.motion import head_rotation

    avatar = splat_avatar()
    avatar = replace(avatar, gaussians=replace(avatar.gaussians, mixing=None, basis=None, limits=None))
    R = head_rotation(avatar.motion)[2].double()
    d = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64), dim=0)

    def colour(sh, direction):
        return torch.einsum("k,nkc->nc", sh_basis(direction) * torch.tensor(SPLAT_SIGNS), sh.double())

    sh = torch.from_numpy(cloud_of_frame(avatar, avatar.motion, 2).sh)
    torch.testing.assert_close(colour(sh, R @ d), colour(avatar.gaussians.sh, d), rtol=0, atol=1e-5)


def test_damaged_files(tmp_path):
    cloud = make_cloud(50)
    write_splat_ply(cloud, tmp_path / "a.ply")
    write_spz(cloud, tmp_path / "a.spz")
    whole = (tmp_path / "a.ply").read_bytes()
    for content in (
        b"",
        b"ply\n",
        whole[:-100],
        whole.replace(b"little", b"medium"),
        whole.replace(b"f_rest_3", b"g_rest_3"),
    ):
        (tmp_path / "b.ply").write_bytes(content)
        with pytest.raises(FormatError, match="b.ply"):
            read_splat_ply(tmp_path / "b.ply")
    whole = (tmp_path / "a.spz").read_bytes()
    data = gzip.decompress(whole)
    for content in (b"", whole[:100], data, gzip.compress(data[:200]), gzip.compress(b"\1" * 400)):
        (tmp_path / "b.spz").write_bytes(content)
        with pytest.raises(FormatError, match="b.spz"):
            read_spz(tmp_path / "b.spz")


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "sh"])
def test_the_check_notices(tmp_path, name):
    cloud = make_cloud(20)
    spoilt = getattr(cloud, name).copy()
    spoilt[7] = spoilt[7][..., ::-1] if spoilt.ndim > 1 else 0.5 * spoilt[7]
    tolerance = Tolerance(means=1e-6, turn=1e-3, log_scales=1e-3, opacities=1e-3, sh=1e-3)
    check_cloud(cloud, cloud, tolerance, tmp_path / "a.ply")
    with pytest.raises(ExportError, match="a.ply read back differs"):
        check_cloud(replace(cloud, **{name: spoilt}), cloud, tolerance, tmp_path / "a.ply")


@pytest.mark.skipif(importlib.util.find_spec("gaussforge") is None, reason="gaussforge is not installed")
@pytest.mark.parametrize("suffix", ["ply", "spz"])
def test_gaussforge_reads_the_same(tmp_path, suffix):
    import gaussforge

    avatar = splat_avatar()
    cloud, path = cloud_of_frame(avatar, avatar.motion, 3), export(avatar, tmp_path / f"me.{suffix}", frame=3)
    forge, data = gaussforge.GaussForge(), path.read_bytes()
    facts = forge.get_model_info(data, suffix)["data"]
    assert facts["basic"]["numPoints"] == 150 and facts["rendering"]["shDegree"] == 2
    bounds = np.array([facts["bounds"][axis] for axis in "xyz"]).T
    np.testing.assert_allclose(bounds, cloud.bounds, atol=1e-6)
    (tmp_path / "theirs.ply").write_bytes(forge.convert(data, suffix, "ply")["data"])
    ours, theirs = (
        (read_splat_ply(path) if suffix == "ply" else read_spz(path)),
        read_splat_ply(tmp_path / "theirs.ply"),
    )
    exact = Tolerance(means=1e-7, turn=1e-5, log_scales=1e-5, opacities=1e-5, sh=1e-5)
    check_cloud(theirs, ours, exact, path)


def test_the_first_harmonic_is_the_colour(tmp_path):
    """A saved splat avatar exports through the command line with the colours it was made of."""
    from avatar3d.cli.main import main

    avatar = splat_avatar(degree=0)
    avatar = replace(avatar, gaussians=replace(avatar.gaussians, mixing=None, basis=None, limits=None))
    save(tmp_path / "a.avatar", avatar)
    assert main(["export", str(tmp_path / "a.avatar"), "-o", str(tmp_path / "a.ply"), "--frame", "1"]) == 0
    expected = 0.5 + SH_C0 * avatar.gaussians.sh[:, 0].numpy()
    np.testing.assert_allclose(0.5 + SH_C0 * read_splat_ply(tmp_path / "a.ply").sh[:, 0], expected, atol=1e-6)
    assert main(["export", str(tmp_path / "a.avatar"), "-o", str(tmp_path / "b.ply"), "--frame", "9"]) == 2


def test_films_show_splats(tmp_path):
    """A picture of a splat avatar is what its splats look like through that camera; clay is the mesh."""
    avatar = splat_avatar()
    pictures = {}
    for name, settings in {
        "splats": FilmSettings(size=96, frame=2, background="#ff8000"),
        "clay": FilmSettings(size=96, frame=2, background="#ff8000", untextured=True),
    }.items():
        film(avatar, tmp_path / f"{name}.png", avatar.motion, settings)
        pictures[name] = np.asarray(Image.open(tmp_path / f"{name}.png")).astype(float) / 255
    centre = avatar.motion.translation.median(0).values
    camera = front_camera(avatar.rig, 96, centre=centre)
    background = torch.tensor([1.0, 128 / 255, 0])
    expected = render_gaussians(
        posed_splats(avatar, avatar.motion, 2), camera, background=background, antialiased=True
    ).rgb[0]
    assert np.abs(pictures["splats"] - expected.clamp(0, 1).numpy()).max() < 1 / 255
    assert np.abs(pictures["clay"] - pictures["splats"]).mean() > 0.02
    summary = film(avatar, tmp_path / "a.mp4", avatar.motion, FilmSettings(size=64))
    assert summary["frames"] == 6 and summary["fps"] > 0


def test_splats_over_a_picture(tmp_path):
    avatar = splat_avatar()
    camera = front_camera(avatar.rig, 48)
    photo = np.random.default_rng(0).integers(0, 255, (48, 48, 3)).astype(np.uint8)
    black, over = (draw_splats(avatar, None, 0, camera, x).astype(int) for x in (0 * photo, photo))
    alpha = 1 - (draw_splats(avatar, None, 0, camera, 0 * photo + 255).astype(int) - black) / 255
    assert 0.1 < alpha.mean() < 0.9
    assert np.abs(over - (black + (1 - alpha) * photo)).max() < 3
    with pytest.raises(ValueError, match="background"):
        draw_splats(avatar, None, 0, camera, photo[:20])
