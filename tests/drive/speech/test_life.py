"""Head, blinks, gaze, brows and breath: statistics that people have, and that gains and seeds do what they say."""

import numpy as np
import pytest
import torch
from made_voices import RATE, talk

from avatar3d.drive.speech.cues import Cue
from avatar3d.drive.speech.gaze import Gaze, saccade_seconds
from avatar3d.drive.speech.perform import perform
from avatar3d.drive.speech.prosody import SILENT_ROW, ProsodyStream
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.models.livelink import GAZE_PITCH, GAZE_YAW
from avatar3d.models.motion import head_rotation
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES

MINUTES = 3


def act(sound, fps=50, cues=(), **settings):
    mouth = torch.zeros(-(-len(sound) * 50 // RATE), 52)
    return perform(mouth, sound, SpeechSettings(**settings), cues=cues, fps=fps)


def curve(motion, name):
    return motion.expression[:, ARKIT_INDEX[name]].numpy()


def head(motion):
    """Degrees: down, left, tilted to the right."""
    return np.rad2deg(matrix_to_rotvec(head_rotation(motion)).numpy())


def gaze(motion):
    """Degrees of the left eye in the head: left, up."""
    left = (curve(motion, "eyeLookOutLeft") - curve(motion, "eyeLookInLeft")) * GAZE_YAW
    up = (curve(motion, "eyeLookUpLeft") - curve(motion, "eyeLookDownLeft")) * GAZE_PITCH
    return np.rad2deg(np.stack([left, up], 1))


def blinks_of(motion, threshold=0.2):
    """Start, time of closing, time of opening (seconds) and depth of each blink."""
    lid, found, i = curve(motion, "eyeBlinkLeft"), [], 0
    while i < len(lid):
        if lid[i] > 0.01:
            j = i
            while j < len(lid) and lid[j] > 0.01:
                j += 1
            top = i + int(lid[i:j].argmax())
            last = i + int(np.flatnonzero(lid[i:j] >= 0.99 * lid[top])[-1])
            if lid[top] > threshold:
                found.append((i / motion.fps, (top - i + 1) / motion.fps, (j - last) / motion.fps, float(lid[top])))
            i = j
        i += 1
    return found


@pytest.fixture(scope="module")
def sound():
    return talk(60 * MINUTES)


@pytest.fixture(scope="module")
def motion(sound):
    return act(sound, seed=5)


def test_blinks_are_like_peoples(motion):
    blinks = blinks_of(motion)
    assert 15 <= len(blinks) / MINUTES <= 20
    closing, opening = (np.array([b[k] for b in blinks]) for k in (1, 2))
    total = closing + opening
    assert total.min() >= 0.1 and total.max() <= 0.45 and opening.mean() > 1.4 * closing.mean()
    partial = np.mean([b[3] < 0.9 for b in blinks])
    assert 0.05 < partial < 0.3
    gaps = np.diff([b[0] for b in blinks])
    logs = np.log(gaps)
    skew = ((gaps - gaps.mean()) ** 3).mean() / gaps.std() ** 3
    assert 0.35 < logs.std() < 0.95 and skew > 0.5 and gaps.min() > 0.4  # skewed, as lognormal gaps are


def test_every_full_blink_is_seen_at_30_frames_a_second(sound):
    motion = act(sound[: 60 * RATE], fps=30, seed=1)
    depth = [b[3] for b in blinks_of(motion, 0.85)]
    assert len(depth) > 8 and min(depth) > 0.9


def test_blink_rate_follows_gain_and_style(sound):
    part = sound[: 90 * RATE]
    assert not blinks_of(act(part, blinks=0.0))
    assert 1.6 < len(blinks_of(act(part, blinks=2.0))) / len(blinks_of(act(part))) < 2.4


def test_head_moves_as_speakers_heads_do(motion, sound):
    angles = head(motion)
    assert (angles.std(0) > [1, 1.2, 0.6]).all() and (angles.std(0) < [5, 6, 3.5]).all()
    assert np.abs(angles).max() < 20
    speed = np.linalg.norm(np.diff(angles, axis=0), axis=1) * motion.fps
    assert 4 < np.sqrt((speed**2).mean()) < 25 and speed.max() < 90
    silence = act(torch.zeros(60 * RATE), seed=5)
    assert np.abs(np.diff(head(silence), axis=0)).mean() < 0.5 * np.abs(np.diff(angles, axis=0)).mean()
    assert np.abs(np.diff(head(silence), axis=0)).max() > 0  # idle, not frozen


def test_nods_come_with_stress(motion, sound):
    stream = ProsodyStream()
    rows = stream.push(sound.numpy()) + stream.flush()
    accents = [i for i, row in enumerate(rows) if row.accent > 0.4 and 50 < i < len(rows) - 50]
    pitch = head(motion)[:, 0]
    moved = np.array([pitch[i + 1] - (pitch[i - 14] + pitch[i + 16]) / 2 for i in accents])
    anywhere = np.random.default_rng(0).integers(50, len(pitch) - 50, 2000)
    chance = np.array([pitch[i + 1] - (pitch[i - 14] + pitch[i + 16]) / 2 for i in anywhere])
    assert len(accents) > 60 and moved.mean() > 1.0  # degrees lower on the accent than before and after it
    assert moved.mean() > chance.mean() + 5 * chance.std() / np.sqrt(len(moved))


def test_gaze_rests_and_jumps(motion):
    directions = gaze(motion)
    world = directions + np.stack([head(motion)[:, 1], -head(motion)[:, 0]], 1)
    off = np.linalg.norm(world, axis=1)
    assert 0.5 < np.mean(off < 4) < 0.9  # on the camera half to nine tenths of the time
    step = np.linalg.norm(np.diff(world, axis=0), axis=1)
    fast = step > 1.0  # above 50 degrees a second: saccades
    starts = np.flatnonzero(fast[1:] & ~fast[:-1])
    assert 0.4 < len(starts) / (60 * MINUTES) < 3
    assert np.mean(step < 0.3) > 0.8  # fixations in between
    assert np.abs(directions).max() < 33


@pytest.mark.parametrize("degrees", [2.0, 5.0, 10.0, 20.0])
def test_saccades_lie_on_the_main_sequence(degrees):
    """Duration 21 ms + 2.2 ms a degree; peak speed near what people reach (Bahill and others 1975)."""
    size = np.deg2rad(degrees)
    eyes = Gaze(np.random.default_rng(0), 0.0)
    eyes._from, eyes._to, eyes._start, eyes._seconds = np.zeros(2), np.array([size, 0.0]), 0, saccade_seconds(size)
    times = np.linspace(0, 0.1, 2001)
    path = np.rad2deg([eyes._where(t * 50)[0] for t in times])
    speed = np.gradient(path, times)
    assert saccade_seconds(size) == pytest.approx(0.021 + 0.0022 * degrees)
    people = 550 * (1 - np.exp(-degrees / 7))
    assert 0.6 < speed.max() / people < 1.4


def test_eyes_make_up_for_the_head(sound):
    """Without glances the eyes stay on the camera while the head moves."""
    motion = act(sound[: 30 * RATE], gaze=0.01, head=2.0)
    eyes, turn = gaze(motion)[:, 0], head(motion)[:, 1]
    assert np.corrcoef(eyes, turn)[0, 1] < -0.98


def test_eyes_lead_the_head():
    motion = act(
        torch.zeros(4 * RATE), cues=[Cue(time=1.0, kind="look", value="left", duration=2.5)], gaze=0.01, head=1.0
    )
    still = act(torch.zeros(4 * RATE), gaze=0.01, head=1.0)
    world = gaze(motion)[:, 0] + head(motion)[:, 1]
    follow = head(motion)[:, 1] - head(still)[:, 1]
    reached = np.argmax(world > 0.9 * 20)
    assert world[55:160].max() > 18 and 50 <= reached <= 57  # the eyes are there within 0.1 s
    assert follow[reached] < 0.35 * follow.max() and follow.max() > 2  # the head comes later


def test_brows_rise_on_accents_and_have_a_switch(sound, motion):
    part = sound[: 60 * RATE]
    up = curve(motion, "browOuterUpLeft")
    assert 0.1 < up.max() <= 1 and 0.02 < np.mean(up > 0.1) < 0.4
    assert curve(act(part, brows=0.0), "browOuterUpLeft").max() == 0


def test_breath(sound):
    rest = act(torch.zeros(60 * RATE))
    lift = rest.translation[:, 1].numpy()
    rising = np.flatnonzero((np.diff(lift)[1:] > 0) & (np.diff(lift)[:-1] <= 0))
    assert 11 <= len(rising) <= 20 and 0.0003 < np.ptp(lift) < 0.004
    off = act(torch.zeros(5 * RATE), breathing=0.0)
    assert torch.equal(off.translation, torch.zeros_like(off.translation))
    speech = act(sound[: 60 * RATE])
    assert np.ptp(speech.translation[:, 1].numpy()) > 0.0008


def test_brows_do_not_rest_for_long_while_somebody_speaks(motion):
    up, down = curve(motion, "browInnerUp"), curve(motion, "browDownLeft")
    ranges = np.array([max(np.ptp(up[i : i + 200]), np.ptp(down[i : i + 200])) for i in range(0, len(up) - 200, 50)])
    assert np.mean(ranges > 0.1) > 0.95 and 0.2 < np.median(ranges) < 0.8  # of four seconds with a pause in them
    assert 0.01 < down.std() < up.std() and down.max() > 0.2  # tracked people frown as well, less


@pytest.mark.parametrize("part", ["head", "blinks", "gaze", "brows", "breathing"])
def test_each_switch_leaves_the_others_alone(part, sound):
    names = {"head": (), "blinks": ("eyeBlink", "eyeWide", "eyeSquint"), "gaze": ("eyeLook",), "brows": ("brow",),
             "breathing": ("noseSneer", "jawOpen")}  # fmt: skip
    clip = sound[: 12 * RATE]
    on, off = act(clip, seed=3), act(clip, seed=3, **{part: 0.0})
    changed = {n for n in ARKIT_NAMES if not np.allclose(curve(on, n), curve(off, n), atol=1e-6)}
    linked = {"head": ("eyeLook",), "breathing": ("eyeLook",), "gaze": ("eyeBlink",)}.get(part, ())
    assert all(name.startswith((*names[part], *linked)) for name in changed), changed
    if part not in ("head", "breathing", "gaze"):
        assert np.allclose(head(on), head(off), atol=1e-4)


def test_seeds(sound):
    clip = sound[: 10 * RATE]
    a, b, c = act(clip, seed=1), act(clip, seed=1), act(clip, seed=2)
    assert torch.equal(a.expression, b.expression) and torch.equal(a.rotations["head"], b.rotations["head"])
    assert np.abs(head(a) - head(c)).mean() > 0.5
    assert [x[0] for x in blinks_of(a)] != [x[0] for x in blinks_of(c)]


def test_a_listener_is_quiet_and_nods(sound):
    mouth = torch.full((3000, 52), 0.5)
    listener = perform(mouth, sound[: 60 * RATE], SpeechSettings(role="listener", breathing=0.0), fps=50)
    lips = [i for n, i in ARKIT_INDEX.items() if n.startswith(("mouth", "jaw"))]
    assert float(listener.expression[:, lips].max()) == 0
    pitch = head(listener)[:, 0]
    stream = ProsodyStream()
    rows = stream.push(sound[: 60 * RATE].numpy()) + stream.flush()
    ends = [i for i, row in enumerate(rows) if row.ends and i < len(rows) - 80]
    after = np.mean([np.ptp(pitch[i : i + 60]) for i in ends])
    usual = np.mean([np.ptp(pitch[i : i + 60]) for i in range(100, len(pitch) - 60, 37)])
    assert after > 1.3 * usual
    off = np.linalg.norm(gaze(listener) + np.stack([head(listener)[:, 1], -pitch], 1), axis=1)
    assert np.mean(off < 4) > 0.7


def test_cues_are_carried_out():
    sound = torch.zeros(8 * RATE)
    cues = [Cue(time=1.0, kind="nod"), Cue(time=3.0, kind="shake"), Cue(time=5.0, kind="wink", value="right"),
            Cue(time=6.0, kind="emotion", value="sad")]  # fmt: skip
    plain = act(sound, breathing=0.0, blinks=0.0)
    told = act(sound, cues=cues, breathing=0.0, blinks=0.0)
    change = head(told) - head(plain)
    assert change[50:110, 0].max() > 4 and np.abs(change[:50]).max() < 1e-3
    assert change[150:220, 1].max() > 3 and change[150:220, 1].min() < -3
    assert curve(told, "eyeBlinkRight")[250:275].max() > 0.95 and curve(told, "eyeBlinkLeft")[250:275].max() < 0.05
    assert curve(told, "mouthFrownLeft")[:300].max() < 0.05 and curve(told, "mouthFrownLeft")[-1] > 0.5


@pytest.mark.parametrize("kind", ["laugh", "sigh"])
def test_laughs_and_sighs_are_acted(kind):
    sound = torch.zeros(6 * RATE)
    acted = act(sound, cues=[Cue(time=1.0, kind=kind)])
    calm = act(sound, cues=[Cue(time=1.0, kind=kind)], nonspeech=0.0)
    if kind == "laugh":
        jaw = curve(acted, "jawOpen")[60:130]
        beats = np.flatnonzero((jaw[1:-1] > jaw[:-2]) & (jaw[1:-1] >= jaw[2:]))
        assert 4 <= len(beats) <= 9  # four to five bursts a second
        assert curve(acted, "mouthSmileLeft").max() > 0.6 and curve(acted, "cheekSquintLeft").max() > 0.5
        assert (head(acted) - head(calm))[:, 0].min() < -3  # thrown back
    else:
        lift = acted.translation[:, 1].numpy()
        assert lift[60:110].max() > calm.translation[:, 1].numpy()[60:110].max() - 1e-6
        assert curve(acted, "eyeBlinkLeft")[100:150].mean() > curve(calm, "eyeBlinkLeft")[100:150].mean() + 0.05
    assert curve(acted, "jawOpen")[-20:].max() < 0.06  # and over


def test_settings_are_checked():
    with pytest.raises(ValueError, match="head=9"):
        SpeechSettings(head=9.0)
    with pytest.raises(ValueError, match="unknown"):
        SpeechSettings(emotion="glad")
    with pytest.raises(ValueError, match="Cue"):
        Cue(time=0.0, kind="dance")
    with pytest.raises(ValueError, match="Look"):
        Cue(time=0.0, kind="look", value="back")
    assert SILENT_ROW.speaking is False
