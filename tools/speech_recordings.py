"""Recorded human speech with a free licence as training data: telephone prompts that Debian packages carry.

    python tools/speech_recordings.py FOLDER --packages PACKAGES [--languages en es fr it ru]

PACKAGES is a folder into which `apt-get download` puts asterisk-core-sounds-* (1.6.1; 16 kHz; CC-BY-SA-3.0,
Italian and Russian CC-BY-3.0; each package's copyright file names the speakers), or where they lie already. FOLDER
receives shards like those of `speech_data.py`, one set a speaker.

When each phone is heard: espeak-ng speaks the prompt's text, its phone times are known, and dynamic time warping takes
them to the recording; what is compared is what a phoneme recogniser hears inside (`hama_network.py`), which hardly
depends on who speaks. Prompts that do not say their text (long warps, other sounds) are left out.
"""

import argparse
import gzip
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import hama_network
import numpy as np
import torch
from speech_data import Shards, room, stretched
from torch import Tensor

from avatar3d.drive.speech.phones import Phone, Speech
from avatar3d.drive.speech.synthesis import synthesize
from avatar3d.errors import AvatarError
from avatar3d.nets.mel import SAMPLE_RATE
from avatar3d.sound import load_audio, resample_audio

SPEAKERS = {"en": "allison", "es": "allison", "fr": "june", "it": "carlo", "ru": "ivrvoice"}
VOICES = {"en": "en-us", "es": "es-419", "fr": "fr", "it": "it", "ru": "ru"}
"""espeak-ng's voice of each language."""
STRETCHES = (0.74, 0.79, 0.84, 0.89, 0.95, 1.0, 1.06, 1.12, 1.2, 1.28)
"""Few people speak here, so their vocal tracts are changed more than those of synthetic voices."""
_LAYERS = (0, 1)
"""Blocks of the recogniser whose output is compared."""
_STEP = 0.01  # seconds per row that is compared
_SLOPE = 0.1
"""What a step that moves one sound alone costs, in units of distance."""
_PANGRAMS = "The quick brown fox jumps over the lazy dog. Pack my box with five dozen liquor jugs, thank you, Mother."
_FAR = 0.55
"""Mean distance beyond which a recording does not say its text; right ones lie around 0.45, wrong ones around 0.7."""


def fetched(folder: Path, language: str) -> tuple[list[Path], dict[str, str]]:
    """Recordings of a language, and text by name; downloads and unpacks the packages where they are missing."""
    name = f"asterisk-core-sounds-{language}"
    folder.mkdir(parents=True, exist_ok=True)
    for package in (name, f"{name}-g722"):
        if not (folder / package).exists():
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
            archive = next(folder.glob(f"{package}_*.deb"))
            subprocess.run(["dpkg-deb", "-x", archive.name, package], cwd=folder, check=True)
    sounds = folder / f"{name}-g722/usr/share/asterisk/sounds"
    listing = folder / f"{name}/usr/share/doc/{name}/core-sounds-{language}.txt.gz"
    texts = {}
    for line in gzip.decompress(listing.read_bytes()).decode("utf-8", "replace").splitlines():
        key, colon, text = line.partition(":")
        if colon and not key.startswith(";"):
            texts[key.strip()] = text.strip()
    return sorted(sounds.rglob("*.g722")), texts


def spoken(text: str) -> str:
    """What of a line of the list is said; empty where it describes a sound."""
    if re.search(r"[\[(<]|\ufffd", text):
        return ""
    return text.replace("...", ". ").replace("#", "").strip()


def prompts(folder: Path, language: str) -> Iterator[tuple[str, Tensor, str]]:
    """Name, 16 kHz sound with a peak of 0.8, and text."""
    paths, texts = fetched(folder, language)
    for path in paths:
        name = "/".join(path.relative_to(path.parents[1]).with_suffix("").parts)
        words = spoken(texts.get(name, texts.get(path.stem, "")))
        if path.parent.name in ("letters", "phonetic", "digits", "dictate", "followme"):
            words = spoken(texts.get(f"{path.parent.name}/{path.stem}", ""))
        if not words:
            continue
        samples = load_audio(path, SAMPLE_RATE)
        if len(samples) > SAMPLE_RATE // 4 and float(samples.abs().max()) > 0.01:
            yield f"{language}/{name}", samples * (0.8 / samples.abs().max()), words


@lru_cache(maxsize=1)
def _average() -> dict[int, Tensor]:
    """Mean output of the blocks that are compared, over some speech."""
    known = synthesize(_PANGRAMS, voice="espeak-ng", language="en-us")
    sound = resample_audio(known.samples, known.rate, SAMPLE_RATE)
    blocks, _ = hama_network.heard(sound / sound.abs().max() * 0.8)
    return {k: blocks[k].mean(0) for k in _LAYERS}


def features(samples: Tensor) -> np.ndarray:
    """What is compared, one unit vector per `_STEP`."""
    blocks, _ = hama_network.heard(samples)
    rows = torch.cat([torch.nn.functional.normalize(blocks[k] - mean, dim=1) for k, mean in _average().items()], 1)
    fine = torch.nn.functional.interpolate(rows.T[None], scale_factor=2, mode="linear")[0].T
    return torch.nn.functional.normalize(fine, dim=1).numpy()


def warp(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    """For each row of `a` the row of `b` that goes with it, and the mean distance along the way."""
    cost = 1 - a @ b.T
    n, m = cost.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0
    back = np.zeros((n, m), np.int8)
    for d in range(n + m - 1):  # one anti-diagonal at a time
        i = np.arange(max(0, d - m + 1), min(n, d + 1))
        j = d - i
        ways = np.stack([total[i, j] + cost[i, j], total[i, j + 1] + cost[i, j] + _SLOPE,
                         total[i + 1, j] + cost[i, j] + _SLOPE])  # fmt: skip
        best = ways.argmin(0)
        back[i, j], total[i + 1, j + 1] = best, ways.min(0)
    i, j, way = n - 1, m - 1, []
    while i >= 0 and j >= 0:
        way.append((i, j))
        step = back[i, j]
        i, j = i - (step != 2), j - (step != 1)
    pairs = np.array(way[::-1])
    matched = np.array([pairs[pairs[:, 0] == k, 1].mean() for k in range(n)])
    return matched, float(cost[pairs[:, 0], pairs[:, 1]].mean())


def aligned(samples: Tensor, known: Speech) -> tuple[list[Phone], float]:
    """The phones of `known`, which says the same, as they are heard in `samples`; and how far the two are apart."""
    model = resample_audio(known.samples, known.rate, SAMPLE_RATE)
    matched, far = warp(features(model / model.abs().max() * 0.8), features(samples))
    duration = len(samples) / SAMPLE_RATE
    edges = np.concatenate([[0.0], (matched + 0.5) * _STEP, [duration]])
    times = np.concatenate([[0.0], (np.arange(len(matched)) + 0.5) * _STEP, [known.duration]])
    phones = []
    for phone in known.phones:
        start, end = np.interp([phone.start, phone.end], times, edges)
        if end - start > 0.005:
            phones.append(Phone(symbol=phone.symbol, start=float(start), end=float(end), stress=phone.stress))
    return phones, far


def main() -> None:
    """Writes the shards of every language."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", choices=tuple(SPEAKERS), default=list(SPEAKERS))
    parser.add_argument("--copies", type=int, default=2, help="vocal tracts a recording is given")
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for language in options.languages:
        rng = np.random.default_rng([options.seed, list(SPEAKERS).index(language)])
        shards = Shards(options.folder, f"{SPEAKERS[language]}_{language}-{options.seed}")
        used = left_out = 0.0
        for name, samples, text in prompts(options.packages, language):
            try:
                phones, far = aligned(samples, synthesize(text, voice="espeak-ng", language=VOICES[language]))
            except AvatarError as error:
                print(name, error, file=sys.stderr)
                continue
            if far > _FAR:
                left_out += len(samples) / SAMPLE_RATE
                print(f"{name}: left out, {far:.2f} from {text[:50]!r}", file=sys.stderr)
                continue
            used += len(samples) / SAMPLE_RATE
            speech = Speech(samples=samples, rate=SAMPLE_RATE, phones=tuple(phones), text=text)
            for factor in rng.choice(STRETCHES, options.copies, replace=False):
                sound, timed = stretched(speech, float(factor))
                sound = sound / max(np.abs(sound).max(), 1e-3) * 10 ** (-rng.uniform(1, 12) / 20)
                dry = rng.random() < 0.55
                shards.add(sound if dry else room(rng, sound), timed, name, float(factor), dry)
        shards.close()
        print(f"{language}: {used / 60:.1f} minutes used, {left_out / 60:.1f} left out", flush=True)


if __name__ == "__main__":
    main()
