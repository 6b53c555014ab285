"""A person's habits: found again in motion that was made with them, and their file."""

import dataclasses

import pytest
import torch
from made_voices import RATE, talk

from avatar3d.drive.speech.learn_style import learn_style
from avatar3d.drive.speech.perform import perform
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.drive.speech.style import Style, load_style, save_style
from avatar3d.errors import FileError, FormatError, TrackingError
from avatar3d.types import ARKIT_INDEX


def spoken(seconds=16, seed=2):
    sound = talk(seconds, seed=seed)
    rows = seconds * 50
    mouth = torch.zeros(rows, 52)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 6, rows // 5, generator=generator)
    waves = torch.nn.functional.interpolate(noise, size=rows, mode="linear")[0].abs() * 0.2
    for i, name in enumerate(
        ("jawOpen", "mouthPucker", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "mouthFunnel")
    ):
        for column in (name, f"{name}Left", f"{name}Right"):
            if column in ARKIT_INDEX:
                mouth[:, ARKIT_INDEX[column]] = waves[i]
    return sound, mouth.clamp(0, 0.6)


def test_habits_are_found_again():
    sound, mouth = spoken()
    person = Style(
        mouth=0.7, jaw=1.4, asymmetry=0.25, smile=0.2, blinks=34.0, brows=1.5, yaw=0.12, pitch=0.02, pace=1.0
    )
    motion = perform(mouth, sound, SpeechSettings(style=person, seed=11), closed=torch.zeros(len(mouth)))
    found = learn_style(motion, sound, mouth)
    assert 0.68 < found.mouth < 0.9 and 1.1 < found.jaw < 1.45
    assert 0.1 < found.asymmetry < 0.3 and 0.08 < found.smile < 0.25
    assert found.blinks > 21
    assert found.yaw > 1.25 * Style().yaw and found.pitch < 0.95 * Style().pitch


def test_lively_brows_are_told_from_still_ones():
    sound, mouth = spoken(12)
    lively, still = (
        learn_style(perform(mouth, sound, SpeechSettings(style=Style(brows=x), seed=5)), sound).brows
        for x in (2.0, 0.4)
    )
    assert lively > 1.15 and still < 0.85


def test_the_average_speaker_is_average():
    sound, mouth = spoken(seed=3)
    motion = perform(mouth, sound, SpeechSettings(seed=0), closed=torch.zeros(len(mouth)))
    found = learn_style(motion, sound, mouth)
    assert found.mouth == pytest.approx(1.0, abs=0.1) and found.jaw == pytest.approx(1.0, abs=0.1)
    assert abs(found.asymmetry) < 0.03 and abs(found.smile) < 0.05
    assert found.yaw == pytest.approx(Style().yaw, rel=0.15)


def test_short_clips_are_trusted_less():
    sound, mouth = spoken()
    motion = perform(mouth, sound, SpeechSettings(style=Style(jaw=1.5)), closed=torch.zeros(len(mouth)))
    cut = dataclasses.replace(motion, expression=motion.expression[:150], translation=None,
                              rotations={n: r[:150] for n, r in motion.rotations.items()})  # fmt: skip
    short, long = learn_style(cut, sound[: 5 * RATE], mouth[:250]), learn_style(motion, sound, mouth)
    assert 1 < short.jaw < long.jaw < 1.5
    with pytest.raises(TrackingError, match="speaks"):
        learn_style(motion, torch.zeros(16 * RATE), mouth)


def test_files(tmp_path):
    style = Style(mouth=0.8, blinks=25.0, smile=-0.1)
    save_style(style, tmp_path / "a.style")
    assert load_style(tmp_path / "a.style") == style
    (tmp_path / "a.style").write_text("{}")
    with pytest.raises(FormatError, match="style"):
        load_style(tmp_path / "a.style")
    (tmp_path / "a.style").write_text('{"format": "avatar3d-style", "mouth": 90}')
    with pytest.raises(FormatError, match="mouth=90"):
        load_style(tmp_path / "a.style")
    with pytest.raises(FileError, match="read"):
        load_style(tmp_path / "none.style")
    with pytest.raises(ValueError, match="asymmetry"):
        Style(asymmetry=2.0)
