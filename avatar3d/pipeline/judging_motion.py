"""How near motion made from speech comes to motion tracked while the same was said."""

import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar3d import capture, models, storage
from avatar3d.drive.speech.baseline import plain_visemes
from avatar3d.drive.speech.from_speech import from_speech
from avatar3d.drive.speech.recognise import recognise
from avatar3d.errors import CaptureError, FileError, FormatError, UsageError
from avatar3d.evaluate.speech_motion import compare, loudness_motion, mean_scores
from avatar3d.models.motion import track_to_motion
from avatar3d.models.rig import build_rig
from avatar3d.pipeline.common import VIDEO_SUFFIXES, Progress, Say
from avatar3d.pipeline.fitting import track
from avatar3d.pipeline.sounds import sound_of_footage
from avatar3d.sound import load_audio
from avatar3d.types import Avatar, Motion, Track

_RATE = 16000
_LOUDEST = 0.7  # full scale, to which sound is brought for the recogniser
Truth = tuple[Motion | Tensor, float | None]
"""A tracked motion, or landmarks and their frames per second."""


def evaluate_motion(
    motions: list[Path | str],
    against: list[Path | str],
    *,
    baselines: bool = False,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> dict:
    """Judges motions against what was tracked (RESEARCH.md, metrics of speech).

    Args:
        motions: Each a .motion, or sound (or a clip with sound) that is turned to motion here.
        against: For each, the truth: a clip, which is tracked here; a .motion or .avatar; or an .npz with `landmarks`
            `[t, 478, 3]` in pixels and `fps`.
        baselines: Also judge what needs only the sound: its loudness, and recognised phones with a plain table.
        progress: Called with stage, done, total.
        say: Called with what a person should know.

    Returns:
        `pairs`, one of each with `motion`, `against`, `lips {correlation, lag_ms, best_correlation}`, where the truth
        is a motion `lve {mm2, mm}` and `fdd {mm2}`, `rtf` where the motion was made here, and `baselines` by name;
        `mean {pairs, correlation, best_correlation, lag_ms}`, and `baselines` by name with the same.

    Raises:
        ValueError: another number of motions than of truths, or none.
        FileError: one of them does not exist.
        CaptureError: sound is needed, and there is none.
    """
    if not motions or len(motions) != len(against):
        raise UsageError(f"evaluate-motion: {len(motions)} motions against {len(against)}; expected one for each.")
    for path in map(Path, [*motions, *against]):  # before minutes go into tracking
        if not path.exists():
            raise FileError(f"{path} does not exist.")
    pairs = []
    for made, true in zip(motions, against, strict=True):
        truth, fps = truth_of(Path(true), progress, say)
        pair: dict = {"motion": Path(made).name, "against": Path(true).name}
        if Path(made).suffix.lower() in (".motion", ".avatar"):
            motion = _stored(Path(made))
            samples = sound_of(Path(true)) if baselines else None
        else:
            samples = sound_of(Path(made))
            begun = time.process_time()
            motion = from_speech(samples)
            pair["rtf"] = (time.process_time() - begun) / max(len(samples) / _RATE, 1e-3)
        pair |= compare(motion, truth, fps)
        if baselines and samples is not None:
            others = baseline_motions(samples, say)
            pair["baselines"] = {name: compare(other, truth, fps) for name, other in others.items()}
        pairs.append(pair)
    out: dict = {"pairs": pairs, "mean": mean_scores(pairs)}
    if baselines:
        names = pairs[0]["baselines"]
        out["baselines"] = {name: mean_scores([p["baselines"][name] for p in pairs]) for name in names}
    return out


def truth_of(path: Path, progress: Progress | None = None, say: Say = lambda line: None) -> Truth:
    """What was tracked: from a clip, a motion, or landmarks."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        try:
            with np.load(path) as file:
                return torch.from_numpy(file["landmarks"]).float(), float(file["fps"])
        except (OSError, KeyError, ValueError) as error:
            raise FormatError(f"{path} holds no `landmarks` [t, 478, 3] and `fps` ({error}).") from None
    if suffix in (".motion", ".avatar"):
        return _stored(path), None
    model = models.load("head")
    tracked = track(capture.open_capture(path), model, progress=progress, say=say)
    return track_to_motion(tracked, build_rig(model, tracked.identity, tracked.offsets)), None


def _stored(path: Path) -> Motion:
    value = storage.load(path)
    motion = value.motion if isinstance(value, Avatar) else value
    if motion is None or isinstance(motion, Track):
        raise FormatError(f"{path} carries no motion; expected a .motion, or an .avatar made from footage.")
    return motion


def sound_of(path: Path) -> Tensor:
    """From the first frame of a clip on, or from the sound's beginning."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return sound_of_footage(path, _RATE)
    if path.suffix.lower() in (".motion", ".avatar", ".npz"):
        raise CaptureError(f"{path} has no sound, which --baselines needs; give sound in the place of the motion.")
    return load_audio(path, _RATE)


def baseline_motions(samples: Tensor, say: Say = lambda line: None) -> dict[str, Motion]:
    """What is to be beaten, from 16 kHz sound: loudness, and recognised phones where `hama` is installed."""
    out = {"loudness": loudness_motion(samples, _RATE)}
    if find_spec("hama"):
        phones = recognise(samples / samples.abs().max().clamp(min=1e-4) * _LOUDEST)
        out["recogniser"] = Motion(fps=50.0, expression=plain_visemes(phones, len(samples) / _RATE))
    else:
        say("no baseline of recognised phones: the package hama is not installed")
    return out
