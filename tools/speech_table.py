"""The table of docs/speech.md: lips of ours and of baselines against tracked lips of the same speech.

    python tools/speech_table.py DATA [--headaudio FOLDER] [--tracks FOLDER] [--json FILE]

DATA is the folder of the test data. `--headaudio` is where npm put @met4citizen/headaudio (run under node); `--tracks`
keeps the tracked motions.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from avatar3d import storage
from avatar3d.drive.speech.from_speech import from_speech
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.drive.speech.stream import SpeechStream
from avatar3d.evaluate.speech_motion import compare, mean_scores
from avatar3d.pipeline.judging_motion import Truth, baseline_motions, sound_of, truth_of
from avatar3d.types import Motion
from avatar3d.types.arkit import ARKIT_INDEX

CLIPS = (
    "child_d11_girl", "lowlight_d20_man", "mead_M026_disgust", "mead_M030_angry", "mead_W036_happy",
    "older_man_lightning_track", "portrait_1080x1920_speech",
)  # fmt: skip
OCULUS: dict[str, dict[str, float]] = {
    "aa": {"jawOpen": 0.6, "mouthLowerDown": 0.2, "mouthUpperUp": 0.1}, "E": {"jawOpen": 0.35, "mouthStretch": 0.2},
    "I": {"jawOpen": 0.2, "mouthStretch": 0.3}, "O": {"jawOpen": 0.4, "mouthFunnel": 0.5},
    "U": {"jawOpen": 0.15, "mouthPucker": 0.7}, "PP": {"mouthPress": 0.3}, "SS": {"jawOpen": 0.08, "mouthStretch": 0.2},
    "TH": {"jawOpen": 0.15}, "DD": {"jawOpen": 0.15}, "FF": {"jawOpen": 0.08, "mouthRollLower": 0.4},
    "kk": {"jawOpen": 0.2}, "nn": {"jawOpen": 0.15}, "RR": {"jawOpen": 0.15, "mouthFunnel": 0.3},
    "CH": {"jawOpen": 0.12, "mouthFunnel": 0.4}, "sil": {},
}  # fmt: skip
"""A plain table for the peer's visemes, which come without one."""


def headaudio(samples: Tensor, folder: Path) -> Motion:
    """The peer's visemes as curves."""
    script = Path(__file__).with_name("headaudio_visemes.mjs")
    with tempfile.NamedTemporaryFile(suffix=".f32") as file:
        (samples / samples.abs().max().clamp(min=1e-4) * 0.8).numpy().astype("<f4").tofile(file.name)
        command = ["node", str(script), str(folder.resolve()), file.name, "16000", "50"]
        answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    rows = torch.tensor(answer["rows"])
    expression = torch.zeros(len(rows), len(ARKIT_INDEX))
    for i, name in enumerate(answer["names"]):
        for curve, value in OCULUS[name].items():
            for full in (curve, f"{curve}Left", f"{curve}Right"):
                if full in ARKIT_INDEX:
                    expression[:, ARKIT_INDEX[full]] += value * rows[:, i]
    return Motion(fps=50.0, expression=expression)


def pairs(data: Path, tracks: Path | None) -> list[tuple[str, Tensor, Truth]]:
    """Name, sound and truth of every pair."""
    folder = data / "audio_motion_pairs/echomimic_video_tracked"
    out = [("echomimic", sound_of(folder / "movie_0_clip_0.wav"),
            truth_of(folder / "mediapipe478_landmarks_DERIVED.npz"))]  # fmt: skip
    for name in CLIPS:
        clip = data / "videos" / f"{name}.mp4"
        kept = tracks / f"{name}.motion" if tracks else None
        truth = truth_of(kept if kept and kept.exists() else clip)
        if kept and not kept.exists() and isinstance(truth[0], Motion):
            storage.save(kept, truth[0])
        out.append((name, sound_of(clip), truth))
    return out


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--headaudio", type=Path)
    parser.add_argument("--tracks", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    calm = SpeechSettings(head=0, blinks=0, gaze=0, brows=0)
    results: dict[str, dict[str, dict]] = {}
    for name, samples, (truth, fps) in pairs(options.data, options.tracks):
        begun = time.process_time()
        motions = {"ours": from_speech(samples, fps=50, settings=calm)}
        factor = (time.process_time() - begun) / (len(samples) / 16000)
        stream = SpeechStream(fps=50, settings=calm)
        parts = [stream.push(samples[i : i + 320]) for i in range(0, len(samples), 320)]
        heard = torch.cat([part.expression for part in (*parts, stream.flush())])
        motions["ours, streamed"] = Motion(fps=50.0, expression=heard)
        motions["ours, phones of the recogniser"] = from_speech(samples, fps=50, settings=calm, hear="recogniser")
        motions |= baseline_motions(samples)
        if options.headaudio:
            motions["headaudio"] = headaudio(samples, options.headaudio)
        results[name] = {key: compare(motion, truth, fps) for key, motion in motions.items()}
        results[name]["ours"]["rtf"] = factor
    kinds = list(next(iter(results.values())))
    print("| clip | " + " | ".join(kinds) + " |\n|---|" + "---|" * len(kinds))
    for name, scores in results.items():
        lips = [scores[kind]["lips"] for kind in kinds]
        cells = [f"{x['correlation']:.2f}, {x['best_correlation']:.2f} at {x['lag_ms']:+d}" for x in lips]
        print(f"| {name} | " + " | ".join(cells) + " |")
    means = {kind: mean_scores([scores[kind] for scores in results.values()]) for kind in kinds}
    print("| mean | " + " | ".join(
        f"{m['correlation']:.2f}, {m['best_correlation']:.2f}" for m in means.values()) + " |")  # fmt: skip
    factors = [scores["ours"]["rtf"] for scores in results.values()]
    print(f"real-time factor, one core: {max(factors):.3f} at most")
    if options.json:
        options.json.write_text(json.dumps({"clips": results, "mean": means}, indent=2))


if __name__ == "__main__":
    main()
