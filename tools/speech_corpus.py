"""What `train_speech.py` learns from: shards of log-mel frames and phones, as random segments with targets.

Targets are the curves of `drive.speech.coarticulation` for the phones; they are computed once and kept beside the
shards.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from speech_augment import SILENT, add, hum, loudness, mixed, noise
from torch import Tensor

from avatar3d.drive.speech.coarticulation import articulate, closures, labiodentals
from avatar3d.drive.speech.phones import SILENCE, Phone, articulations
from avatar3d.nets.mel import BANDS, Normaliser
from avatar3d.nets.speech_motion import CLASSES, CONTACTS, CURVES
from avatar3d.types.arkit import ARKIT_INDEX

COLUMNS = len(CURVES) + len(CONTACTS) + 1
_TONGUE = ("alveolar", "lateral", "palatal")
_BACK = ("velar", "uvular", "glottal")
_PAUSE, _LOUD = 0.15, -1.3  # seconds, and log10 power under the speech's level
SYNTHETIC = ("espeak", "flite", "piper")
"""What the names of shards of synthetic speech begin with; all others are recordings of people."""


def kind(symbol: str) -> list[tuple[int, float]]:
    """Class and share of the time of each part of a phone."""
    out = []
    for part in articulations(symbol):
        if part.place != "vowel":
            name = "tongue" if part.place in _TONGUE else "back" if part.place in _BACK else part.place
            name = "labiodental" if name == "bilabial_fricative" else name
        elif part.height < 0.25:
            name = "open"
        elif part.rounding > 0.4:
            name = "half_round" if part.height < 0.75 else "close_round"
        else:
            name = "half" if part.height < 0.75 else "close"
        out.append((CLASSES.index(name), part.share))
    return out


def targets(phones: list[Phone], rows: int) -> np.ndarray:
    """Curves, contacts and class of every row, float32 `[rows, COLUMNS]`."""
    seconds = rows / 50
    curves = articulate(phones, seconds)
    pick = [ARKIT_INDEX[name if name in ARKIT_INDEX else f"{name}Left"] for name in CURVES]
    voice, classes = np.zeros(rows), np.zeros(rows)
    for phone in phones:
        if phone.symbol == SILENCE:
            continue
        at = phone.start
        for index, share in kind(phone.symbol):
            end = at + share * (phone.end - phone.start)
            # the rows whose middles are inside
            span = slice(max(math.ceil(50 * at - 0.5), 0), max(math.ceil(50 * end - 0.5), 0))
            classes[span], voice[span], at = index, 1, end
    contacts = [closures(phones, seconds), labiodentals(phones, seconds), torch.from_numpy(voice)]
    columns = [*curves[:, pick].T, *contacts, torch.from_numpy(classes)]
    return torch.stack([c.float() for c in columns], 1).numpy()


def unbroken(phones: list[Phone], mel: np.ndarray) -> list[Phone]:
    """Phones without the short pauses that are not heard as such: the text's reader paused, the speaker did not."""
    energy = np.log10(np.power(10.0, mel).sum(1)) - loudness(mel)
    out: list[Phone] = []
    for i, phone in enumerate(phones):
        inside = energy[int(100 * phone.start) : int(100 * phone.end) + 1]
        short = phone.symbol == SILENCE and phone.end - phone.start < _PAUSE and 0 < i < len(phones) - 1
        if short and len(inside) and np.median(inside) > _LOUD:
            middle = 0.5 * (phone.start + phone.end)
            out[-1:] = [replace(last, end=middle) for last in out[-1:]]
            phones[i + 1] = replace(phones[i + 1], start=middle)
        else:
            out.append(phones[i])
    return out


def average_mouths(goals: list[np.ndarray]) -> Tensor:
    """Mean curves of every class [15, 17]."""
    rows = np.concatenate(goals)
    n, kinds = len(CURVES), rows[:, -1].astype(int)
    means = [rows[kinds == k, :n].mean(0) if (kinds == k).any() else np.zeros(n) for k in range(len(CLASSES))]
    return torch.from_numpy(np.stack(means)).float()


def shard(path: Path) -> tuple[list[np.ndarray], list[np.ndarray], list[dict]]:
    """Log-mel, targets and notes of every utterance of a shard."""
    with np.load(path) as file:
        lengths, mel, notes = file["lengths"], file["mel"], json.loads(str(file["notes"]))
    pieces = np.split(mel, np.cumsum(lengths)[:-1])
    ready = path.with_suffix(".targets.npy")
    rows = [len(m) // 2 for m in pieces]
    if ready.exists():
        goals = np.load(ready)
    else:
        spoken = [[Phone(symbol=s, start=a, end=b, stress=k) for s, a, b, k in n["phones"]] for n in notes]
        spoken = [unbroken(p, m.astype(np.float32)) for p, m in zip(spoken, pieces, strict=True)]
        goals = np.concatenate([targets(p, r) for p, r in zip(spoken, rows, strict=True)])
        temporary = path.with_suffix(".part.npy")
        np.save(temporary, goals.astype(np.float16))
        temporary.rename(ready)
    return pieces, np.split(goals.astype(np.float32), np.cumsum(rows)[:-1]), notes


class Corpus:
    """Utterances: log-mel and targets, by voice."""

    def __init__(self, paths: list[Path], recorded: float = 0.5) -> None:
        """Reads shards.

        Args:
            paths: Shards of `speech_data.py` and `speech_recordings.py`.
            recorded: Share of recordings among what is drawn, where there are both.
        """
        self.mel: list[np.ndarray] = []
        self.goal: list[np.ndarray] = []
        voices: dict[tuple[str, float], list[int]] = {}
        for path in paths:
            pieces, goals, notes = shard(path)
            name = path.name.split("-")[0]
            for i, note in enumerate(notes):
                voices.setdefault((name, note["stretch"]), []).append(len(self.mel) + i)
            self.mel += pieces
            self.goal += goals
        self.minutes = sum(map(len, self.mel)) / 6000
        self._voice = {i: members for members in voices.values() for i in members}
        self._groups = []
        for synthetic, share in ((True, 1 - recorded), (False, recorded)):
            members = [i for (name, _), ids in voices.items() if (name in SYNTHETIC) == synthetic for i in ids]
            if members:  # long utterances as often as they are long
                weights = np.array([len(self.goal[i]) for i in members], float)
                self._groups.append((np.array(members), np.cumsum(weights / weights.sum()), share))

    def _drawn(self, rng: np.random.Generator) -> int:
        shares = np.cumsum([share for *_, share in self._groups])
        members, chances, _ = self._groups[int(np.searchsorted(shares / shares[-1], rng.random()))]
        return int(members[np.searchsorted(chances, rng.random())])

    def segment(self, rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Speech of one voice with pauses, rows * 2 frames, some of it faster or slower than it was said."""
        pace = float(rng.uniform(0.85, 1.25)) if rng.random() < 0.6 else 1.0
        count = math.ceil(rows * pace)
        mel = np.full((2 * count, BANDS), SILENT, np.float32)
        goal = np.zeros((count, COLUMNS), np.float32)
        at = int(rng.integers(0, 60)) if rng.random() < 0.5 else 0
        voice = self._voice[self._drawn(rng)]
        while at < count - 10:
            i = voice[int(rng.integers(len(voice)))]
            total = len(self.goal[i])
            first = int(rng.integers(0, max(total - 100, 1))) if at == 0 else 0
            take = min(total - first, count - at)
            mel[2 * at : 2 * (at + take)] = self.mel[i][2 * first : 2 * (first + take)]
            goal[at : at + take] = self.goal[i][first : first + take]
            at += take + int(rng.integers(3, 20) if rng.random() < 0.5 else rng.integers(5, 90))
        return (mel, goal) if pace == 1 else (_paced(mel, 2 * rows), _paced(goal, rows))

    def background(self, rng: np.random.Generator, count: int, songs: list[np.ndarray]) -> np.ndarray:
        """Noise, hum, music or a crowd, loudness 0."""
        sort = rng.random()
        if sort < 0.6:
            return noise(rng, count)
        if sort < 0.7:
            return hum(rng, count)
        if sort < 0.85:
            song = songs[int(rng.integers(len(songs)))]
            at = int(rng.integers(max(len(song) - count, 1)))
            piece = np.resize(song[at : at + count], (count, BANDS))
            return piece if rng.random() < 0.6 else add(piece, noise(rng, count) - 1)
        crowd = np.full((count, BANDS), SILENT)
        for _ in range(int(rng.integers(6, 12))):
            voice = self.mel[int(rng.integers(len(self.mel)))].astype(np.float32)
            start = int(rng.integers(len(voice)))
            crowd = add(crowd, np.take(voice, np.arange(start, start + count), axis=0, mode="wrap") - loudness(voice))
        return crowd - loudness(crowd)


def _paced(values: np.ndarray, count: int) -> np.ndarray:
    """As many rows as asked for; all columns but the class between their neighbours."""
    at = np.linspace(0, len(values) - 1, count)
    low = np.minimum(at.astype(int), len(values) - 2)
    part = (at - low)[:, None].astype(np.float32)
    out = values[low] * (1 - part) + values[low + 1] * part
    if values.shape[1] == COLUMNS:
        out[:, -1] = values[np.round(at).astype(int), -1]
    return out


def batch(
    rng: np.random.Generator, corpus: Corpus, songs: list[np.ndarray], size: int, rows: int, prior: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """Features `[b, 2 rows, 41]`, those of the speech alone, and targets `[b, rows, COLUMNS]`."""
    mels, cleans, goals = [], [], []
    for _ in range(size):
        background = corpus.background(rng, 2 * rows, songs) if rng.random() < 0.7 else None
        if rng.random() < 0.09:  # nobody speaks
            background = hum(rng, 2 * rows) if rng.random() < 0.3 else background
            mel = np.full((2 * rows, BANDS), SILENT, np.float32)
            mel = mel if background is None else background + rng.uniform(-6.5, 0)
            mel[: int(rng.integers(0, 100)) if rng.random() < 0.5 else 0] = SILENT
            clean, goal = np.full_like(mel, SILENT), np.zeros((rows, COLUMNS), np.float32)
        else:
            clean, goal = corpus.segment(rng, rows)
            mel = mixed(rng, clean, background)
        mels.append(np.maximum(mel, SILENT).astype(np.float32))
        cleans.append(clean)
        goals.append(goal)
    features = Normaliser(prior)(np.stack(mels))
    alone = Normaliser(prior)(np.stack(cleans))
    return masked(rng, torch.from_numpy(features)), torch.from_numpy(alone), torch.from_numpy(np.stack(goals))


def masked(rng: np.random.Generator, features: Tensor) -> Tensor:
    """Features with some bands, and some short moments, at their averages (as in SpecAugment, Park et al., 2019)."""
    for one in features:
        if rng.random() < 0.5:
            first = int(rng.integers(0, BANDS - 4))
            one[:, first : min(first + int(rng.integers(2, 9)), BANDS)] = 0
        for _ in range(int(rng.integers(0, 5))):
            at = int(rng.integers(0, len(one)))
            one[at : at + int(rng.integers(2, 9)), :BANDS] = 0
    return features
