"""What no picture shows: it is known which splats those are, and they take after the others, beyond the footage too."""

import math
from dataclasses import replace

import pytest
import torch

from avatar3d import models
from avatar3d.appearance.splats.evidence import Evidence, gather
from avatar3d.appearance.splats.extremes import with_extremes
from avatar3d.appearance.splats.fit import draw, on_background, photometric
from avatar3d.appearance.splats.initial import SH_C0, mesh_light, of_faces, on_mesh
from avatar3d.appearance.splats.polish import polish
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.shots import Shot
from avatar3d.appearance.splats.unseen import C1, colours_towards, complete, least_dependent, taken_after
from avatar3d.appearance.splats.unseen_hair import hair_end, strands
from avatar3d.geometry.colour import linear_to_srgb
from avatar3d.models.anchors import with_anchors
from avatar3d.models.rig import build_rig
from avatar3d.render.gaussians import pose_gaussians
from avatar3d.types import ARKIT_INDEX, Camera, Motion, TextureSet
from avatar3d.types.gaussians import GROUP_NAMES

SIZE, SKIN = 96, torch.tensor([0.8, 0.6, 0.5])


@pytest.fixture(scope="module")
def rig():
    model = models.load("head")
    return with_anchors(build_rig(model, torch.zeros(model.identity_basis.shape[0])))


@pytest.fixture(scope="module")
def poses(rig):
    return Poses.of(rig, Motion(fps=25.0, expression=torch.zeros(3, 52)))


@pytest.fixture(scope="module")
def looks():
    albedo = torch.full((64, 64, 3), 0.0) + (SKIN**2.2 * 255).round()  # darker than the pictures
    return TextureSet(albedo=albedo.byte())


@pytest.fixture(scope="module")
def splats(rig, looks):
    """Skin of one colour, with a basis that does nothing."""
    g = on_mesh(rig, looks, torch.eye(3), 4000, 1, torch.Generator().manual_seed(0))
    sh = g.sh.clone()
    sh[:, 0] = (SKIN - 0.5) / SH_C0
    turn = torch.zeros(1, 55)
    turn[0, ARKIT_INDEX["jawOpen"]] = 1
    return replace(g, sh=sh, mixing=turn, limits=torch.tensor([[0.0, 1.0]]), basis=torch.zeros(1, g.count, 14))


def camera(turn=0.0):
    """Goes round to the subject's left."""
    c, s = math.cos(turn), math.sin(turn)
    T = torch.eye(4)
    T[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    T[2, 3] = 0.8
    return Camera.from_focal(1.6 * SIZE, SIZE, SIZE, T)


@pytest.fixture(scope="module")
def shots(splats, poses):
    """From the front and the left; nobody sees the right side."""
    blank = torch.zeros(SIZE, SIZE, 3, dtype=torch.uint8)
    out = []
    for frame, turn in enumerate((0.0, 0.5, 1.0)):
        shot = Shot(frame=frame, image=blank, mask=torch.full((SIZE, SIZE), 255, dtype=torch.uint8),
                    camera=camera(turn), close=False)  # fmt: skip
        with torch.no_grad():
            drawn, _ = draw(splats, poses, *poses.vertices(torch.tensor([frame])), shot, torch.zeros(3))
            covered, _ = draw(replace(splats, sh=torch.full_like(splats.sh, 0)), poses,
                              *poses.vertices(torch.tensor([frame])), shot, torch.zeros(3))  # fmt: skip
        mask = (covered[..., 0] * 2 * 255).clamp(0, 255).byte()
        out.append(replace(shot, image=(drawn.clamp(0, 1) * 255).byte(), mask=mask))
    return out


def expected(rig, looks, g):
    lit = mesh_light(rig, looks, torch.eye(3), g.face.long(), g.barycentrics)
    return linear_to_srgb(lit.clamp(0, 1))


def at_rest(g, rig):
    return pose_gaussians(replace(g, basis=None, mixing=None, limits=None), rig, rig.neutral[None].float()).means[0]


def test_what_the_pictures_show_is_known(splats, rig, poses, shots):
    evidence = gather(splats, poses, shots)
    x = at_rest(splats, rig)
    skin = splats.group == 0
    front = of_faces(rig, ("nose", "forehead"))[splats.face.long()]
    back = skin & (x[:, 2] < x[:, 2].min() + 0.03)
    left, right = (of_faces(rig, (f"ear_{side}",))[splats.face.long()] for side in ("left", "right"))
    assert float(evidence.shown[front].median()) > 0.15
    assert float(evidence.shown[back].quantile(0.9)) < 0.05
    assert float(evidence.shown[left].max()) > 3 * float(evidence.shown[right].max())
    assert float(evidence.shown.max()) <= 1
    assert bool((evidence.inner <= evidence.shown).all())
    assert float(evidence.inner[front].median()) > 0.15
    mean = evidence.direction[front].mean(0)
    assert float(mean[2]) < -0.7  # towards the face is along -z
    assert float(mean[0]) < -0.1  # and from the left
    assert float(torch.linalg.eigvalsh(evidence.spread).min()) > -1e-5
    unmasked = gather(splats, poses, [replace(s, mask=torch.zeros_like(s.mask)) for s in shots])
    assert not unmasked.shown.any()


def test_unseen_skin_takes_after_what_is_seen(splats, rig, poses, looks, shots):
    evidence = gather(splats, poses, shots)
    generator = torch.Generator().manual_seed(1)
    hidden = (evidence.shown < 0.005) & (splats.group == 0)
    sh, offsets = splats.sh.clone(), splats.offsets.clone()
    sh[hidden] = torch.randn(int(hidden.sum()), 4, 3, generator=generator)
    offsets[hidden] += torch.randn(int(hidden.sum()), 3, generator=generator)
    noisy = replace(splats, sh=sh, offsets=offsets)
    done, unseen = complete(noisy, rig, expected(rig, looks, noisy), evidence)
    done.check(len(rig.faces), 52)
    assert bool((unseen[hidden] == 1).all())
    seen = (evidence.shown > 0.06) & (splats.group != GROUP_NAMES.index("eyes"))
    clean = evidence.inner > 0.06
    assert int((seen & ~clean).sum()) > 20  # what only outlines show has its colour from elsewhere
    assert not unseen[seen & clean].any()
    colours = colours_towards(done.sh, torch.tensor([0.6, 0.0, 0.8]))
    assert float((colours[hidden] - SKIN).abs().max()) < 0.06
    assert float(done.offsets[hidden].abs().max()) < 1e-6
    assert not done.sh[hidden, 1:].any()
    for name in ("offsets", "quats", "logit_opacities", "log_scales"):
        torch.testing.assert_close(getattr(done, name)[seen], getattr(noisy, name)[seen])


def test_a_mouth_that_was_never_open_is_in_shadow(splats, rig, poses, looks):
    nothing = Evidence(shown=torch.zeros(splats.count), direction=torch.zeros(splats.count, 3),
                       spread=torch.zeros(splats.count, 3, 3), inner=torch.zeros(splats.count))  # fmt: skip
    done, unseen = complete(splats, rig, expected(rig, looks, splats), nothing)
    mouth = splats.group == GROUP_NAMES.index("mouth")
    assert mouth.any()
    assert not unseen[mouth].any()
    torch.testing.assert_close(done.log_scales[mouth], splats.log_scales[mouth])
    torch.testing.assert_close(0.5 + SH_C0 * done.sh[mouth, 0], 0.5 * (0.5 + SH_C0 * splats.sh[mouth, 0]))
    # where nothing is seen at all there is nobody to take after
    torch.testing.assert_close(done.sh[~mouth, 0], splats.sh[~mouth, 0])


def test_view_dependence_stays_where_it_was_seen_and_only_there(rng):
    d = torch.nn.functional.normalize(torch.tensor([[1.0, 0, -1], [-1.0, 0, -1], [0.0, 0, -1]]), dim=1)
    mean = d.mean(0)
    spread = (d.T @ d) / 3 - torch.outer(mean, mean)
    sh = 0.5 * torch.randn(1, 4, 3, generator=rng)
    evidence = Evidence(shown=torch.ones(1), direction=mean[None], spread=spread[None], inner=torch.ones(1))
    plain = least_dependent(sh, evidence)
    before, after = (torch.cat([colours_towards(x, each) for each in d]) for x in (sh, plain))
    torch.testing.assert_close(before.mean(0), after.mean(0))
    # towards and away the directions differ little, and a third of that is not believed
    assert float((before - after).abs().max()) < 0.2 * float((before - before.mean(0)).abs().max())
    up = torch.tensor([[0.0, 1.0, -1.0]])
    assert float(plain[0, 1].abs().max()) < 1e-5 < float(sh[0, 1].abs().max())  # never seen from above or below
    torch.testing.assert_close(colours_towards(plain, up - torch.tensor([[0.0, 1, 0]])), colours_towards(plain, up))
    constant = sh[:, :1]
    torch.testing.assert_close(least_dependent(constant, evidence), constant)
    assert pytest.approx(math.sqrt(3 / (4 * math.pi))) == C1


def test_nearest_count_most(rng):
    places = torch.randn(50, 3, generator=rng)
    values = torch.rand(50, 3, generator=rng)
    out = taken_after(places + 1e-4, places, values, torch.ones(50))
    assert float((out - values).abs().max()) < 0.02
    far = taken_after(places + 1e3, places, values, torch.ones(50))
    torch.testing.assert_close(far, values.mean(0).expand(50, 3), atol=0.01, rtol=0)
    assert taken_after(places[:0], places, values, torch.ones(50)).shape == (0, 3)


def test_polish_serves_the_pictures_and_keeps_what_it_should(splats, poses, shots):
    generator = torch.Generator().manual_seed(2)
    shown = gather(splats, poses, shots).shown > 0
    grazed = shown & (torch.arange(splats.count) % 2 == 0)
    noise = 0.3 * torch.randn(splats.sh.shape, generator=generator)
    wrong = replace(splats, sh=splats.sh + noise * (grazed | ~shown)[:, None, None])
    unseen = torch.where(shown, torch.where(grazed, 0.5, 0.0), 1.0)
    for value in poses.corrections.values():
        value.requires_grad_(False)

    def loss(g):
        white, total = torch.ones(3), 0.0
        for shot in shots:
            with torch.no_grad():
                drawn, _ = draw(g, poses, *poses.vertices(torch.tensor([shot.frame])), shot, white)
                total += float(photometric(drawn, on_background(shot, white), 0.2))
        return total

    done, again = (polish(wrong, unseen, poses, shots, 30, 0.2, seed=0) for _ in range(2))
    assert loss(done) < 0.7 * loss(wrong)
    assert torch.equal(done.sh, again.sh)
    for name in ("sh", "offsets", "quats", "log_scales", "logit_opacities"):
        changed = (getattr(done, name) - getattr(wrong, name)).flatten(1 if name != "logit_opacities" else 0).abs()
        changed = changed if name == "logit_opacities" else changed.amax(1)
        plain = ~grazed & (splats.group == 0) & (name not in ("log_scales", "offsets"))  # limits hold for everybody
        assert not changed[plain & (unseen == 0)].any()
        assert float(changed[plain & ~shown].sum()) < 1e-3 * max(1.0, float(changed[grazed].sum()))


def test_hair_that_nobody_sees_stands_off_no_further(splats, rig, looks):
    n = 300
    hair = splats.select(torch.arange(n))
    head = rig.joint_names.index("head")
    faces = len(rig.faces) - len(rig.joint_names)
    scalp = torch.randn(n, 3, generator=torch.Generator().manual_seed(4))
    scalp = torch.nn.functional.normalize(scalp.abs() * torch.tensor([0.3, 1.0, 0.3]), dim=1)
    top = rig.neutral[rig.neutral[:, 1].argmax()] - rig.joint_positions[head]
    places = top + 0.01 * scalp
    places[:20] += torch.tensor([0.0, 0.1, 0.0])
    hair = replace(
        hair, face=torch.full((n,), faces + head, dtype=torch.int32), offsets=100 * places,
        barycentrics=torch.tensor([1.0, 0, 0]).repeat(n, 1), group=torch.ones(n, dtype=torch.uint8),
    )  # fmt: skip
    shown = torch.ones(n)
    shown[:10] = shown[20:40] = 0
    evidence = Evidence(shown=shown, direction=torch.zeros(n, 3), spread=torch.zeros(n, 3, 3), inner=torch.ones(n))
    done, _ = complete(hair, rig, expected(rig, looks, hair), evidence)
    gone = done.logit_opacities < -4
    assert gone[:10].all() and not gone[10:].any()
    below = replace(hair, offsets=100 * (places - torch.tensor([0.0, 0.2, 0.15])))  # a collar: hair ends above it
    done, _ = complete(below, rig, expected(rig, looks, below), evidence)
    stands_off = done.logit_opacities < -4
    assert stands_off[20:40].all() and not stands_off[40:].any()


def test_short_hair_ends_at_the_ears_and_long_hair_where_it_does(rig):
    ears = rig.neutral[rig.regions["ears"]]
    middle, back = float(ears[:, 1].mean()), float(ears[:, 2].mean())

    def layers(low, high):
        y = torch.arange(low, high, 0.001)
        return torch.stack([torch.full_like(y, 0.08), y, torch.full_like(y, back)], 1)

    crown, collar = layers(middle + 0.03, middle + 0.12), layers(middle - 0.12, middle - 0.07)
    assert hair_end(rig, torch.cat([crown, collar])) == pytest.approx(middle, abs=0.011)
    curls = layers(middle - 0.08, middle + 0.12)
    assert hair_end(rig, curls) == pytest.approx(middle - 0.08, abs=0.011)
    beard = layers(middle - 0.12, middle - 0.02) + torch.tensor([0.0, 0.0, 0.09])
    assert hair_end(rig, torch.cat([crown, beard])) == pytest.approx(middle, abs=0.011)
    assert hair_end(rig, layers(middle - 0.4, middle)) is None
    assert hair_end(replace(rig, regions={}), crown) is None


def test_hair_varies_as_what_is_near_does(rng):
    places = torch.randn(2000, 3, generator=rng)
    left = places[:, :1] < 0.5  # most of them
    values = torch.where(left, 0.2, 0.8) + 0.1 * torch.randn(2000, 3, generator=rng)
    wanted = torch.tensor([[-2.0, 0, 0]]) + 0.2 * torch.randn(500, 3, generator=rng)
    out = strands(wanted, places, values)
    assert out.mean() == pytest.approx(0.2, abs=0.03)
    other = strands(-wanted, places, values)
    assert other.mean() == pytest.approx(0.5, abs=0.05)  # half of the way from what is usual
    assert 0.03 < float(out.std()) < 0.1  # a mean of 60 would have 0.013
    torch.testing.assert_close(strands(wanted, places, values), out, rtol=0, atol=0)
    assert strands(wanted[:0], places, values).shape == (0, 3)


def closing(splats, rig, blink):
    """A lid that shows an iris, and what is made of it."""
    expression = torch.zeros(50, 52)
    expression[:, ARKIT_INDEX["eyeBlinkLeft"]] = torch.linspace(0, blink, 50)
    expression[:, ARKIT_INDEX["eyeBlinkRight"]] = 1.0
    expression[:, ARKIT_INDEX["tongueOut"]] = 1.0
    lid = of_faces(rig, ("eyelid_upper_left",))[splats.face.long()]
    sh = splats.sh.clone()
    sh[lid, 0] = -1.7
    evidence = Evidence(shown=torch.ones(splats.count), direction=torch.tensor([[0.0, 0, -1]]).repeat(splats.count, 1),
                        spread=torch.zeros(splats.count, 3, 3), inner=torch.ones(splats.count))  # fmt: skip
    painted = replace(splats, sh=sh)
    return painted, with_extremes(painted, rig, expression, evidence), lid


def posed(g, rig, blink, shape="eyeBlinkLeft"):
    e = torch.zeros(1, 52)
    e[0, ARKIT_INDEX[shape]] = blink
    return pose_gaussians(g, rig, (rig.neutral + blink * rig.shapes[ARKIT_INDEX[shape]])[None].float(), e)


def test_a_lid_that_never_closed_closes_as_skin(splats, rig):
    before, after, lid = closing(splats, rig, 0.1)
    after.check(len(rig.faces), 52)
    assert len(after.basis) == len(before.basis) + 1  # the right eye and the tongue are known
    for blink in (0.0, 0.09):  # nothing changes within the footage
        for name in ("means", "scales", "opacities", "sh"):
            torch.testing.assert_close(
                getattr(posed(after, rig, blink), name), getattr(posed(before, rig, blink), name), atol=2e-4, rtol=1e-3
            )
    closed = 0.5 + SH_C0 * posed(after, rig, 1.0).sh[0, :, 0]
    upper, blink = rig.regions["lid_margin_upper_left"], rig.shapes[ARKIT_INDEX["eyeBlinkLeft"]].norm(dim=1)
    corners = rig.faces[splats.face.long()].long()
    comes_down = lid & (blink[corners].amin(1) > 0.4 * blink[upper].mean()) & ~upper[corners].any(1)
    ball = rig.neutral[rig.regions["eyeball_left"]].float()
    x = posed(after, rig, 1.0).means[0]
    outside = (x - ball.mean(0)).norm(dim=1) > (ball - ball.mean(0)).norm(dim=1).mean() + 1e-3
    chosen = comes_down & outside
    assert int(chosen.sum()) >= 3
    assert float((closed[chosen] - SKIN).abs().max()) < 0.05
    others = 0.5 + SH_C0 * posed(after, rig, 1.0, "eyeBlinkRight").sh[0, :, 0]
    torch.testing.assert_close(others, 0.5 + SH_C0 * before.sh[:, 0], atol=1e-4, rtol=1e-4)


def test_a_lid_that_closed_is_left_alone(splats, rig):
    before, after, _ = closing(splats, rig, 0.9)
    assert after is before


def test_a_tongue_that_was_never_out_has_the_colour_of_lips(splats, rig):
    expression = torch.full((20, 52), 1.0)
    expression[:, ARKIT_INDEX["tongueOut"]] = 0
    face = splats.face.long()
    tongue, lips = (of_faces(rig, (name,))[face] for name in ("tongue", "lips_outer"))
    red = torch.tensor([0.8, 0.3, 0.35])
    sh = splats.sh.clone()
    sh[tongue, 0], sh[lips, 0] = -1.5, (red - 0.5) / SH_C0
    evidence = Evidence(shown=torch.ones(splats.count), direction=torch.zeros(splats.count, 3),
                        spread=torch.zeros(splats.count, 3, 3), inner=torch.ones(splats.count))  # fmt: skip
    after = with_extremes(replace(splats, sh=sh), rig, expression, evidence)
    assert int(lips.sum()) >= 20 <= int(tongue.sum())
    out = 0.5 + SH_C0 * posed(after, rig, 1.0, "tongueOut").sh[0, tongue, 0]
    torch.testing.assert_close(out, red.expand_as(out), atol=1e-3, rtol=0)
    inside = posed(after, rig, 0.0, "tongueOut").sh[0, tongue, 0]
    torch.testing.assert_close(inside, torch.full_like(inside, -1.5))
