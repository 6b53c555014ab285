"""Splats on a head whose pictures are rendered: they must come to look like it, again and again in the same way."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from avatar3d import models, ops
from avatar3d.appearance.splats import SplatConfig
from avatar3d.appearance.splats.checkpoint import load_fitting, save_fitting
from avatar3d.appearance.splats.cloud import Cloud
from avatar3d.appearance.splats.fit import Fitting, draw, on_background, settle
from avatar3d.appearance.splats.hull import carve, hair
from avatar3d.appearance.splats.initial import beyond_mesh, on_mesh
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.preview import save_preview
from avatar3d.appearance.splats.reconstruct import components
from avatar3d.appearance.splats.shots import Shot, halved, take_shots
from avatar3d.appearance.splats.weights import weighted
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.models.anchors import ANCHOR_SIZE, with_anchors
from avatar3d.models.motion import head_rotation
from avatar3d.models.rig import build_rig, pose_rig
from avatar3d.render.mesh import render_mesh
from avatar3d.types import ARKIT_INDEX, Camera, Motion, TextureSet

SIZE, FRAMES = 72, 6


@pytest.fixture(scope="module")
def rig():
    model = models.load("head")
    return build_rig(model, torch.zeros(model.identity_basis.shape[0]))


@pytest.fixture(scope="module")
def motion():
    generator = torch.Generator().manual_seed(3)
    expression = torch.zeros(FRAMES, 52)
    expression[:, ARKIT_INDEX["jawOpen"]] = torch.linspace(0, 0.6, FRAMES)
    expression[:, ARKIT_INDEX["eyeLookUpLeft"]] = torch.linspace(0, 1, FRAMES)
    rotations = {name: 0.1 * torch.randn(FRAMES, 3, generator=generator) for name in ("root", "neck", "head")}
    return Motion(fps=25.0, expression=expression, rotations=rotations, translation=torch.randn(FRAMES, 3) * 0.0)


@pytest.fixture(scope="module")
def looks():
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(1, 3, 8, 8, generator=generator)
    albedo = torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")[0].permute(1, 2, 0)
    return TextureSet(albedo=(albedo * 255).byte())


@pytest.fixture(scope="module")
def shots(rig, motion, looks):
    T = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    T[2, 3] = 0.8
    camera = Camera.from_focal(1.6 * SIZE, SIZE, SIZE, T)
    poses = Poses.of(with_anchors(rig), motion)
    vertices = poses.vertices(torch.arange(FRAMES))[0][:, : len(rig.neutral)]
    seen = render_mesh(vertices, rig.faces, camera, uvs=rig.uvs, uv_faces=rig.uv_faces,
                       texture=looks.albedo[None].float() / 255)  # fmt: skip
    images, masks = (seen.rgb.clamp(0, 1) * 255).byte(), (seen.alpha.clamp(0, 1) * 255).byte()
    return [Shot(frame=i, image=images[i], mask=masks[i], camera=camera, close=False) for i in range(FRAMES)]


def start(rig, motion, looks, shots, config):
    posed = with_anchors(rig)
    poses = Poses.of(posed, motion)
    gaussians = on_mesh(rig, looks, torch.eye(3), config.count, 1, torch.Generator().manual_seed(0))
    mixing, limits = components(motion, torch.arange(FRAMES), 2)
    basis = torch.zeros(len(mixing), gaussians.count, 14)
    gaussians = type(gaussians)(**{**vars(gaussians), "mixing": mixing, "limits": limits, "basis": basis})
    return Fitting(Cloud(gaussians), poses, shots, config, seed=0)


def error(fitting, shots):
    white, total = torch.ones(3), 0.0
    with torch.no_grad():
        for shot in shots:
            vertices, coefficients, R = fitting.poses.vertices(torch.tensor([shot.frame]))
            picture, _ = draw(fitting.cloud.gaussians(), fitting.poses, vertices, coefficients, R, shot, white)
            total += float((picture - on_background(shot, white)).square().mean())
    return -10 * math.log10(total / len(shots))


CONFIG = SplatConfig(size=SIZE, count=1500, steps=60, components=2)


def test_splats_come_to_look_like_the_pictures(rig, motion, looks, shots):
    fitting = start(rig, motion, looks, shots, CONFIG)
    before = error(fitting, shots)
    fitting.run()
    assert before > 12  # the textured mesh is a good start
    assert error(fitting, shots) > before + 2
    assert fitting.step == CONFIG.steps and not fitting.stopped


def test_a_preview_shows_footage_above_and_the_splats_below(rig, motion, looks, shots, tmp_path):
    fitting = start(rig, motion, looks, shots, CONFIG)
    far = []
    for _ in range(2):
        save_preview(tmp_path / "look.png", fitting)
        picture = torch.from_numpy(np.array(Image.open(tmp_path / "look.png"))).float()
        assert picture.shape == (2 * SIZE, 3 * SIZE, 3)
        target = on_background(shots[0], torch.ones(3)) * 255
        assert float((picture[:SIZE, :SIZE] - target).abs().max()) <= 0.5
        far.append(float((picture[SIZE:, :SIZE] - target).abs().mean()))
        fitting.run()
    assert far[1] < 0.8 * far[0]
    assert [path.name for path in tmp_path.iterdir()] == ["look.png"]


def test_same_seed_same_splats_and_a_killed_run_goes_on_exactly(rig, motion, looks, shots, tmp_path):
    whole = start(rig, motion, looks, shots, CONFIG)
    whole.run()
    broken = start(rig, motion, looks, shots, CONFIG)
    for step in range(25):
        broken.advance(step / CONFIG.steps)
    save_fitting(tmp_path / "state", "key", broken)
    resumed = start(rig, motion, looks, shots, CONFIG)
    assert not load_fitting(tmp_path / "state", "other key", resumed)
    assert not load_fitting(tmp_path / "none", "key", resumed)
    assert load_fitting(tmp_path / "state", "key", resumed)
    resumed.run()
    for name, leaf in whole.cloud.leaves.items():
        torch.testing.assert_close(resumed.cloud.leaves[name], leaf, rtol=0, atol=0)
    for name, value in whole.poses.corrections.items():
        torch.testing.assert_close(resumed.poses.corrections[name], value, rtol=0, atol=0)


def test_damaged_checkpoint_is_no_checkpoint(rig, motion, looks, shots, tmp_path):
    (tmp_path / "state").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00nonsense")
    assert not load_fitting(tmp_path / "state", "key", start(rig, motion, looks, shots, CONFIG))


def test_ctrl_c_stops_with_what_there_is(rig, motion, looks, shots):
    fitting = start(rig, motion, looks, shots, CONFIG)

    def progress(stage, done, total):
        if done == 5:
            fitting.advance = interrupted

    def interrupted(share):
        raise KeyboardInterrupt

    fitting.run(progress)
    assert fitting.stopped and fitting.step == 5


def test_frames_that_moved_are_found_again(rig, motion, looks, shots):
    fitting = start(rig, motion, looks, shots, CONFIG)
    fitting.run()
    shifted = {**vars(motion), "translation": motion.translation + torch.tensor([0.004, 0.0, 0.0])}
    fitting.poses = Poses.of(fitting.poses.rig, Motion(**shifted))
    before = error(fitting, shots[3:])
    settle(fitting.cloud.detached(), fitting.poses, shots[3:], CONFIG, rounds=30)
    assert error(fitting, shots[3:]) > before + 1
    assert float(fitting.poses.corrections["place"][5, 0]) < -0.001  # towards where it was


def test_no_corrections_is_the_motion_itself(rig, motion):
    posed = with_anchors(rig)
    poses = Poses.of(posed, motion)
    vertices, _, _ = poses.vertices(torch.arange(FRAMES))
    expected = pose_rig(posed, motion.expression, motion.rotations, motion.translation)
    torch.testing.assert_close(vertices, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("joint", ["root", "neck"])
def test_torso_turns_under_a_head_that_stays(rig, motion, joint):
    posed = with_anchors(rig)
    poses = Poses.of(posed, motion)
    before = poses.vertices(torch.arange(FRAMES))[0].view(FRAMES, -1, 3)
    poses.corrections[joint] += torch.tensor([0.1, -0.2, 0.05])
    after = poses.vertices(torch.arange(FRAMES))[0]
    head = rig.skinning_weights[:, rig.joint_names.index("head")] > 0.999
    torch.testing.assert_close(after[:, : len(head)][:, head], before[:, : len(head)][:, head], rtol=0, atol=2e-6)
    assert float((after - before)[:, : len(head)].abs().max()) > 1e-3


def test_corrections_spread_over_frames_between(rig, motion):
    poses = Poses.of(with_anchors(rig), motion)
    poses.use(torch.tensor([1, 4]))
    poses.corrections["place"][1], poses.corrections["place"][4] = 0.001, 0.004
    poses.spread()
    expected = torch.tensor([0.001, 0.001, 0.002, 0.003, 0.004, 0.004])
    torch.testing.assert_close(poses.corrections["place"][:, 0], expected)


def test_anchors_ride_on_their_joints(rig, motion):
    posed = with_anchors(rig)
    assert len(posed.faces) == len(rig.faces) + len(rig.joint_names)
    assert torch.equal(posed.faces[: len(rig.faces)], rig.faces)
    a, b, c = posed.neutral[posed.faces[len(rig.faces) :].long()].unbind(1)
    torch.testing.assert_close(a, rig.joint_positions.to(a))
    torch.testing.assert_close((b - a)[:, 0], torch.full((len(a),), ANCHOR_SIZE), rtol=0, atol=1e-7)
    moved = pose_rig(posed, motion.expression, motion.rotations, motion.translation)[
        :, posed.faces[len(rig.faces) :].long()
    ]
    lengths = (moved[:, :, 1] - moved[:, :, 0]).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, ANCHOR_SIZE), rtol=0, atol=1e-6)


def test_hair_and_clothes_begin_where_the_person_is_seen_beside_the_mesh(rig, motion, shots):
    poses = Poses.of(with_anchors(rig), motion)
    ys, xs = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    wide = ((xs - SIZE / 2).abs() < SIZE * 0.4).byte() * 255
    marked = [Shot(frame=s.frame, image=s.image, mask=wide, camera=s.camera, close=False) for s in shots[:2]]
    found = beyond_mesh(rig, poses, marked, 200, 0)
    assert found is not None and 50 < found.count <= 200
    carriers = set((found.face - len(rig.faces)).tolist())
    assert carriers == {rig.joint_names.index("head"), rig.joint_names.index("root")}
    assert beyond_mesh(rig, poses, shots[:1], 200, 0) is None or beyond_mesh(rig, poses, shots[:1], 200, 0).count < 60


def test_cloud_keeps_its_budget_and_drops_the_faint(rig, motion, looks, shots):
    fitting = start(rig, motion, looks, shots, CONFIG)
    cloud = fitting.cloud
    with torch.no_grad():
        cloud.leaves["logit_opacities"][:100] = -8
    cloud.earned += torch.rand(cloud.count, generator=torch.Generator().manual_seed(0))
    cloud.seen += 1
    cloud.reshape_to(1450, grow=True)
    assert cloud.count == 1450
    assert float(cloud.leaves["logit_opacities"].detach().min()) > -8
    assert all(len(m[0]) == len(x) for m, x in ((cloud.moments[n], x) for n, x in cloud.leaves.items() if n != "basis"))
    assert cloud.gaussians().basis.shape == (5, 1450, 14)
    cloud.reshape_to(1450, grow=False)
    assert cloud.count == 1450


def test_hair_and_clothes_do_not_change_with_the_turn_of_the_head(rig, motion, looks, shots):
    fitting = start(rig, motion, looks, shots, CONFIG)
    cloud = fitting.cloud
    cloud.fixed.group[:700] = 1  # as if they were hair
    fitting.run()
    basis, group = cloud.gaussians().basis, cloud.fixed.group
    assert (group == 1).sum() > 500 and not basis[-3:, group == 1].any()
    assert basis[-3:, group == 0].any() and basis[:-3, group == 1].any()


def test_hair_is_carved_out_of_the_masks(rig, motion):
    T = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    T[2, 3] = 0.8
    camera = Camera.from_focal(200, 128, 128, T)
    turned = {
        **vars(motion),
        "rotations": {"head": torch.tensor([[0.0, y, 0.0] for y in (-0.5, -0.3, -0.1, 0.1, 0.3, 0.5)])},
    }
    poses = Poses.of(with_anchors(rig), Motion(**turned))
    head = rig.joint_names.index("head")
    scalp = rig.regions["scalp"]
    middle = rig.neutral[scalp].mean(0)
    bare, haired = rig.neutral, rig.neutral.clone()
    haired[scalp] += 0.02 * torch.nn.functional.normalize(rig.neutral[scalp] - middle, dim=1)

    def seen(neutral):
        rigs = with_anchors(replace(rig, neutral=neutral))
        vertices = Poses.of(rigs, Motion(**turned)).vertices(torch.arange(FRAMES))[0][:, : len(neutral)]
        alpha = render_mesh(vertices, rig.faces, camera, uvs=rig.uvs, uv_faces=rig.uv_faces,
                            texture=torch.ones(1, 4, 4, 3)).alpha  # fmt: skip
        masks = (alpha > 0.5).byte() * 255
        return [Shot(frame=i, image=torch.full((128, 128, 3), 90, dtype=torch.uint8), mask=masks[i], camera=camera,
                     close=False) for i in range(FRAMES)]  # fmt: skip

    points, normals, colours = carve(rig, poses, seen(haired))
    outside = points + rig.joint_positions[head] - middle
    nearest = ops.nearest_on_mesh(points + rig.joint_positions[head], haired, rig.faces).distance
    above = (outside[:, 1] > 0.03) & (outside[:, 2].abs() < 0.03)  # where pictures show the outline
    assert above.sum() > 200 and float(nearest[above].median()) < 0.006
    assert float((torch.nn.functional.normalize(outside[above], dim=1) * normals[above]).sum(1).median()) > 0.8
    assert float((colours - 90 / 255).abs().max()) < 1e-5
    few = carve(rig, poses, seen(bare))
    assert few is None or len(few[0]) < len(points) / 3  # a shell of half a cell
    splats = hair(rig, poses, seen(haired), 100, 1)
    assert splats.count == 100 and (splats.face == len(rig.faces) + head).all() and (splats.group == 1).all()


def test_components_leave_gaze_to_the_eyes_and_know_their_limits(motion):
    mixing, limits = components(motion, torch.arange(FRAMES), 4)
    assert float(mixing[:, ARKIT_INDEX["eyeLookUpLeft"]].abs().max()) == 0
    assert mixing.shape == (7, 55) and not mixing[:4, 52:].any() and not mixing[4:, :52].any()
    turn = matrix_to_rotvec(head_rotation(motion).float())
    values = torch.cat([motion.expression, turn], 1) @ mixing.T
    torch.testing.assert_close(values.amin(0), limits[:, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(values.amax(0), limits[:, 1], rtol=0, atol=1e-6)
    assert abs(float(mixing[0, ARKIT_INDEX["jawOpen"]])) > 0.99


def test_shots_of_a_small_head_include_a_closer_one(rig):
    import numpy as np

    T = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    T[2, 3] = 2.0
    camera = Camera.from_focal(600.0, 400, 640, T)
    image, mask = np.zeros((640, 400, 3), np.uint8), np.full((640, 400), 255, np.uint8)
    whole, close = take_shots(0, image, mask, camera, rig.neutral, 160)
    assert whole.image.shape == (160, 100, 3) and not whole.close
    assert close.close and max(close.image.shape) == 160
    assert close.camera.focal > 1.5 * whole.camera.focal
    assert halved(whole).image.shape == (80, 50, 3)
    assert abs(halved(whole).camera.focal - whole.camera.focal / 2) < 1e-6


def test_a_covered_face_counts_less(rig, motion, shots):
    """A grey hand over the lower half of the face in one picture."""
    poses = Poses.of(with_anchors(rig), motion)
    pictures = [replace(shots[i % FRAMES], frame=i % FRAMES) for i in range(FRAMES)]
    plain = [s.weight for s in weighted(pictures, poses)]
    seen = (pictures[2].mask > 0).nonzero()
    middle = seen[:, 0].float().mean().long()
    image = pictures[2].image.clone()
    image[middle:] = torch.tensor([70, 60, 60], dtype=torch.uint8)
    pictures[2] = replace(pictures[2], image=image)
    covered = [s.weight for s in weighted(pictures, poses)]
    assert min(plain) >= 0.3
    assert covered[2] < 0.5 * plain[2]
    assert all(covered[i] > 0.9 * plain[i] for i in range(FRAMES) if i != 2)


def test_blurred_pictures_count_less(rig, motion, shots):
    poses = Poses.of(with_anchors(rig), motion)
    image = shots[1].image.permute(2, 0, 1)[None].float()
    soft = torch.nn.functional.avg_pool2d(image, 7, 1, 3)[0].permute(1, 2, 0).byte()
    weights = [s.weight for s in weighted([shots[0], replace(shots[1], image=soft), *shots[2:]], poses)]
    assert weights[1] == min(weights) < 0.8 < 0.9 < sorted(weights)[1]


def test_what_lips_hide_does_not_change(rig, motion, looks, shots):
    """Teeth behind closed lips stay as they began; behind open ones they learn."""
    config, shown = replace(CONFIG, count=6000), []
    teeth = rig.regions["teeth_upper"][rig.faces.long()].all(1)
    for shot in shots[:2]:
        fitting = start(rig, motion, looks, [shot], config)
        face = fitting.cloud.fixed.face.long()
        mine, hidden = teeth[face], fitting.hidden(shot)[face]
        before = {name: leaf.detach().clone() for name, leaf in fitting.cloud.leaves.items()}
        for _ in range(3):
            fitting.advance(0.5)
        leaves = fitting.cloud.leaves
        for name in ("sh_first", "log_scales", "quats"):
            assert torch.equal(leaves[name][mine & hidden], before[name][mine & hidden])
        assert (leaves["sh_first"][mine & ~hidden] != before["sh_first"][mine & ~hidden]).any()
        shown.append(float((~hidden)[mine].float().mean()))
    assert shown[0] < 0.3 and shown[1] > 0.5
