"""Emotions: what FACS states about brows, lids, cheeks and mouth, in curves and on the head itself."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from made_voices import talk

from avatar3d.drive.speech.closure import lip_gap
from avatar3d.drive.speech.emotion import EMOTIONS, expression_of, mixture_of, parse_emotion
from avatar3d.drive.speech.facs import ACTION_UNITS, EMOTION_UNITS, units_to_shapes
from avatar3d.drive.speech.perform import perform
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.types import ARKIT_INDEX

DOCS = Path(__file__).resolve().parents[3] / "docs" / "speech.md"
# What FACS and EMFACS say of each, as what must go up (+) and must not move (0), against neutral speech.
STATED = {
    "happy": {"cheekSquint": 1, "mouthSmile": 1, "mouthFrown": 0, "browInnerUp": 0, "browDown": 0, "eyeWide": 0},
    "sad": {"browInnerUp": 1, "browDown": 1, "mouthFrown": 1, "mouthSmile": 0, "cheekSquint": 0, "browOuterUp": 0},
    "surprised": {"browInnerUp": 1, "browOuterUp": 1, "eyeWide": 1, "jawOpen": 1, "browDown": 0, "mouthSmile": 0},
    "fearful": {"browInnerUp": 1, "browOuterUp": 1, "browDown": 1, "eyeWide": 1, "eyeSquint": 1, "mouthStretch": 1,
                "jawOpen": 1, "mouthSmile": 0},
    "angry": {"browDown": 1, "eyeWide": 1, "eyeSquint": 1, "mouthPress": 1, "browInnerUp": 0, "mouthSmile": 0},
    "disgusted": {"noseSneer": 1, "mouthFrown": 1, "mouthLowerDown": 1, "mouthUpperUp": 1, "mouthSmile": 0,
                  "browInnerUp": 0},
    "contempt": {"mouthSmileRight": 1, "mouthDimpleRight": 1, "mouthSmileLeft": 0, "mouthDimpleLeft": 0,
                 "browInnerUp": 0, "mouthFrown": 0},
}  # fmt: skip


def curve(motion, name):
    """The mean of a curve over time, both sides of it where it has two."""
    names = [name] if name in ARKIT_INDEX else [f"{name}Left", f"{name}Right"]
    return float(motion.expression[:, [ARKIT_INDEX[n] for n in names]].mean())


@pytest.fixture(scope="module")
def spoken():
    """A sound, a mouth that babbles with closed lips in between, and where they are closed."""
    sound = talk(4)
    t = torch.arange(200) / 50
    mouth = torch.zeros(200, 52)
    wave = (0.5 + 0.5 * torch.sin(2 * torch.pi * 2.5 * t)).clamp(0, 1)
    mouth[:, ARKIT_INDEX["jawOpen"]] = 0.35 * wave
    closed = ((0.12 - wave) / 0.05).clamp(0, 1)
    return sound, mouth, closed


def acted(spoken, **settings):
    sound, mouth, closed = spoken
    still = {"head": 0.0, "blinks": 0.0, "gaze": 0.0, "brows": 0.0, "breathing": 0.0}
    return perform(mouth, sound, SpeechSettings(**(still | settings)), closed=closed, fps=50)


@pytest.mark.parametrize("label", sorted(STATED))
def test_each_emotion_moves_what_facs_states(spoken, label):
    calm, felt = acted(spoken), acted(spoken, emotion=label)
    for name, expected in STATED[label].items():
        change = curve(felt, name) - curve(calm, name)
        assert change > 0.02 if expected else abs(change) < 0.01, f"{label}: {name} changes by {change:.3f}"


@pytest.mark.parametrize("label", sorted(STATED))
def test_lips_still_meet(spoken, label):
    _, _, closed = spoken
    motion = acted(spoken, emotion=label)
    rows = torch.nonzero(closed > 0.99)[:, 0] + 0.5  # rows at (i + 0.5) / 50, frames at k / 50
    gaps = lip_gap(motion.expression)
    inside = [min(float(gaps[int(r)]), float(gaps[min(int(r) + 1, len(gaps) - 1)])) for r in rows]
    assert len(inside) > 5 and max(inside) < 1.0
    opened = lip_gap(motion.expression).max()
    assert opened > 0.7 * lip_gap(acted(spoken).expression).max()  # and still open in between


def test_smile_at_full_strength_closes(spoken):
    _, _, closed = spoken
    motion = acted(spoken, emotion="happy:1.0", description="grins very broadly")
    rows = torch.nonzero((closed[:-1] > 0.99) & (closed[1:] > 0.99))[:, 0] + 1
    assert curve(motion, "mouthSmile") > 0.6 and float(lip_gap(motion.expression)[rows].max()) < 1.0


def test_on_the_head_itself():
    """The same directions, measured in millimetres on the model: brows, lids, corners of the mouth."""
    from avatar3d.models.head import load_head

    head = load_head()
    names, basis, rest = head.expression_names, head.expression_basis * 1000, head.template * 1000

    def height(label, region):
        shapes = expression_of({label: 1.0} if label else {}).shapes
        curves = torch.tensor([shapes.get(name, 0.0) for name in names])
        moved = torch.einsum("k,kvc->vc", curves, basis)
        return float(moved[region, 1].mean())

    # A curve's own vertices, where it moves most, stand for the place that it is named after.
    def place(name):
        size = basis[names.index(name)].norm(dim=1)
        return size > 0.6 * size.max()

    inner, lids, corner = place("browInnerUp"), place("eyeWideLeft"), place("mouthSmileLeft")
    assert height("surprised", inner) > 1 and height("sad", inner) > 0.5 and height("angry", inner) < -0.5
    assert height("surprised", lids) > 0.2 and height("fearful", lids) > 0.2 and height("sad", lids) < 0
    assert height("happy", corner) > 1 and height("sad", corner) < -1
    assert rest.shape[0] == basis.shape[1]


def test_the_tables_in_the_docs_are_the_tables():
    text = DOCS.read_text()
    for unit, (name, shapes) in ACTION_UNITS.items():
        row = next((line for line in text.splitlines() if line.startswith(f"| {unit} |")), "")
        assert name in row, f"docs/speech.md has no row of {unit}"
        for shape, value in shapes.items():
            assert re.search(rf"{shape.removesuffix('Left').removesuffix('Right')}\w* {value:g}", row), (unit, shape)
    for label, units in EMOTION_UNITS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {label} |"))
        assert all(f"{unit} {value:g}" in row for unit, value in units.items()), label


def test_mixtures():
    assert parse_emotion("happy:0.7, surprised:0.3") == {"happy": 0.7, "surprised": 0.3}
    assert parse_emotion("Joy") == {"happy": 1.0} and parse_emotion("neutral") == {} and parse_emotion("auto") is None
    half = expression_of({"happy": 0.5}).shapes
    full = expression_of({"happy": 1.0}).shapes
    assert all(half[name] == pytest.approx(full[name] / 2) for name in full)
    both = expression_of({"happy": 0.5, "surprised": 0.5}).shapes
    assert both["mouthSmileLeft"] == half["mouthSmileLeft"] and both["browInnerUp"] == pytest.approx(0.45)
    for bad in ("glad", "happy:2", "happy:x", "va:3,0", "va:0.2", "happy:-0.1"):
        with pytest.raises(ValueError, match="(?i)emotion|valence"):
            parse_emotion(bad)
    with pytest.raises(ValueError, match="action unit"):
        units_to_shapes({"AU99": 1.0})


def test_valence_and_arousal():
    assert max(mixture_of(0.8, 0.3).items(), key=lambda x: x[1])[0] == "happy"
    assert max(mixture_of(-0.7, 0.7).items(), key=lambda x: x[1])[0] == "angry"
    assert max(mixture_of(-0.7, -0.5).items(), key=lambda x: x[1])[0] == "sad"
    assert mixture_of(0, 0) == {} and mixture_of(0.0, -0.8) == {}
    for v in np.linspace(-1, 1, 9):
        for a in np.linspace(-1, 1, 9):
            mixture = mixture_of(float(v), float(a))
            assert set(mixture) <= set(EMOTIONS) and sum(mixture.values()) <= 1 + 1e-9


def test_heard_arousal_orders_voices(data):
    """Excited and subdued clips of one speaker, and of the emotional set; prosody alone."""
    from avatar3d.drive.speech.emotion import HeardEmotion
    from avatar3d.drive.speech.prosody import ProsodyStream
    from avatar3d.sound import load_audio

    def arousal(name):
        stream, feeling = ProsodyStream(), HeardEmotion()
        for row in stream.push(load_audio(data(f"audio/{name}.wav")).numpy()) + stream.flush():
            feeling.step(row)
        return feeling.arousal

    claire = [arousal(f"nvidia_Claire_{x}") for x in ("joy_mandarin", "neutral", "sadness")]
    assert claire[0] > claire[1] > claire[2]
    talkers = {x: arousal(f"emotalk_{x}") for x in ("angry1", "fearful", "happy", "disgust")}
    assert min(talkers[x] for x in ("angry1", "fearful", "happy")) > talkers["disgust"]
