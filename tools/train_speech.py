"""Trains the network of `avatar3d/nets/speech_motion.py` on speech with known phones (`speech_data.py` makes it).

    python tools/speech_data.py DATA --voices piper  --minutes 150 --seed 1
    python tools/speech_data.py DATA --voices flite  --minutes 100 --seed 2
    python tools/speech_data.py DATA --voices espeak --minutes 170 --seed 3
    python tools/train_speech.py DATA --out avatar3d/nets/weights/speech_motion.safetensors

Targets are the curves of `drive.speech.coarticulation` for those phones. A checkpoint is written every minute, and the
same command goes on from it.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from speech_augment import SILENT, add, loudness, mixed, music, noise
from torch import Tensor
from torch.nn import functional

from avatar3d import storage
from avatar3d.drive.speech.coarticulation import articulate, closures, labiodentals
from avatar3d.drive.speech.phones import SILENCE, Phone, articulations
from avatar3d.evaluate.speech_motion import lip_opening
from avatar3d.nets.mel import BANDS, Normaliser
from avatar3d.nets.speech_motion import CLASSES, CONTACTS, CURVES, LOOKAHEAD, SpeechNet, spread
from avatar3d.types.arkit import ARKIT_INDEX

_TONGUE = ("alveolar", "lateral", "palatal")
_BACK = ("velar", "uvular", "glottal")
_AHEAD = torch.tensor([{"jawOpen": 3.0, "mouthClose": 1.5}.get(name, 1.0) for name in CURVES])


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
    """Curves, contacts and class of every row, float32 `[rows, 17 + 3 + 1]`."""
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


def average_mouths(goals: list[np.ndarray]) -> Tensor:
    """Mean curves of every class [15, 17]."""
    rows = np.concatenate(goals)
    n, kinds = len(CURVES), rows[:, -1].astype(int)
    means = [rows[kinds == k, :n].mean(0) if (kinds == k).any() else np.zeros(n) for k in range(len(CLASSES))]
    return torch.from_numpy(np.stack(means)).float()


class Corpus:
    """Utterances: log-mel and targets."""

    def __init__(self, paths: list[Path]) -> None:
        self.mel: list[np.ndarray] = []
        self.goal: list[np.ndarray] = []
        for path in paths:
            with np.load(path) as file:
                lengths, mel, notes = file["lengths"], file["mel"], json.loads(str(file["notes"]))
            pieces = np.split(mel, np.cumsum(lengths)[:-1])
            ready = path.with_suffix(".targets.npy")
            rows = [len(m) // 2 for m in pieces]
            if ready.exists():
                goals = np.load(ready)
            else:
                spoken = [[Phone(symbol=s, start=a, end=b, stress=k) for s, a, b, k in n["phones"]] for n in notes]
                goals = np.concatenate([targets(p, r) for p, r in zip(spoken, rows, strict=True)])
                temporary = path.with_suffix(".part.npy")
                np.save(temporary, goals.astype(np.float16))
                temporary.rename(ready)
            self.mel += pieces
            self.goal += np.split(goals.astype(np.float32), np.cumsum(rows)[:-1])
        self.minutes = sum(map(len, self.mel)) / 6000

    def segment(self, rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Speech with pauses, rows * 2 frames; the first utterance may be joined in the middle."""
        mel = np.full((2 * rows, BANDS), SILENT, np.float32)
        goal = np.zeros((rows, self.goal[0].shape[1]), np.float32)
        at = int(rng.integers(0, 60)) if rng.random() < 0.5 else 0
        while at < rows - 10:
            i = int(rng.integers(len(self.mel)))
            total = len(self.goal[i])
            first = int(rng.integers(0, max(total - 100, 1))) if at == 0 else 0
            take = min(total - first, rows - at)
            mel[2 * at : 2 * (at + take)] = self.mel[i][2 * first : 2 * (first + take)]
            goal[at : at + take] = self.goal[i][first : first + take]
            at += take + int(rng.integers(5, 90))
        return mel, goal

    def background(self, rng: np.random.Generator, count: int, songs: list[np.ndarray]) -> np.ndarray:
        """Noise, music or a crowd, loudness 0."""
        sort = rng.random()
        if sort < 0.7:
            return noise(rng, count)
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


def batch(rng: np.random.Generator, corpus: Corpus, songs: list[np.ndarray], size: int, rows: int, prior: np.ndarray):
    """Features `[b, 2 rows, 41]` and targets `[b, rows, 21]`."""
    mels, goals = [], []
    for _ in range(size):
        background = corpus.background(rng, 2 * rows, songs) if rng.random() < 0.8 else None
        if rng.random() < 0.08:
            mel = np.full((2 * rows, BANDS), SILENT, np.float32)
            mel = mel if background is None else background + rng.uniform(-6.5, -1)
            goal = np.zeros((rows, len(CURVES) + len(CONTACTS) + 1), np.float32)
        else:
            speech, goal = corpus.segment(rng, rows)
            mel = mixed(rng, speech, background)
        mels.append(np.maximum(mel, SILENT).astype(np.float32))
        goals.append(goal)
    features = Normaliser(prior)(np.stack(mels))
    return torch.from_numpy(features), torch.from_numpy(np.stack(goals))


def loss_of(out: Tensor, goal: Tensor, scale: Tensor, slopes: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Curves and the opening of the lips, their speed, contacts, and classes."""
    out, goal = out[:, LOOKAHEAD:], goal[:, :-LOOKAHEAD]
    n, m = len(CURVES), len(CURVES) + len(CONTACTS)
    error = (out[..., :n] - goal[..., :n]) / scale
    shape = (error.square() * _AHEAD).mean()
    gap = (out[..., :n] - goal[..., :n]) @ slopes
    opening = gap.square().mean() + 4 * gap.diff(dim=1).square().mean()
    contacts = functional.binary_cross_entropy_with_logits(
        out[..., n:m], goal[..., n:m], pos_weight=torch.tensor([2.0, 2.0, 1.0])
    )
    classes = functional.cross_entropy(out[..., m:].flatten(0, 1), goal[..., m].long().flatten())
    total = shape + opening + 2 * contacts + 0.4 * classes
    parts = {"shape": shape, "opening": opening, "contacts": contacts, "classes": classes}
    return total, {name: float(value.detach()) for name, value in parts.items()}


@torch.inference_mode()
def judge(net: SpeechNet, features: Tensor, goal: Tensor) -> str:
    """Figures on speech that was not trained on."""
    out = net(features, net.begin(len(features)))[0][:, LOOKAHEAD:]
    goal = goal[:, :-LOOKAHEAD]
    n, m = len(CURVES), len(CURVES) + len(CONTACTS)
    made, real = (lip_opening(spread(x[..., :n].flatten(0, 1))) for x in (out, goal))
    together = float(torch.corrcoef(torch.stack([made, real]))[0, 1])
    right = float((out[..., m:].argmax(-1) == goal[..., m]).float().mean())
    found = [float(((out[..., n + k] > 0) == (goal[..., n + k] > 0.5)).float().mean()) for k in range(len(CONTACTS))]
    shut, said = goal[..., n] > 0.9, out[..., n] > 0
    recall, precision = float(said[shut].float().mean()), float(shut[said].float().mean())
    return (f"opening correlates {together:.3f}, classes {right:.3f}, closed recall {recall:.3f} precision "
            f"{precision:.3f}, contacts " + " ".join(f"{x:.3f}" for x in found))  # fmt: skip


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rows", type=int, default=400, help="rows of 20 ms in a segment")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    paths = sorted(p for p in options.data.glob("*.npz"))
    last = {p.name.split("-")[0]: p for p in paths}
    held = sorted(last.values())
    corpus, others = Corpus([p for p in paths if p not in held]), Corpus(held)
    recipe = " ".join(f"--{k} {v}" for k, v in vars(options).items() if k not in ("data", "out"))
    print(f"{corpus.minutes:.0f} minutes to learn, {others.minutes:.0f} to judge; {recipe}", flush=True)

    rng = np.random.default_rng(options.seed)
    loud = np.concatenate([m[m.max(1) > loudness(m.astype(np.float32)) - 2.5][::7] for m in corpus.mel[::5]])
    prior = loud.astype(np.float64).mean(0) - np.log10(np.power(10.0, loud.astype(np.float64)).sum(1)).mean()
    songs = [music(rng, 12) for _ in range(24)]
    mouths = average_mouths(corpus.goal)
    everything = np.concatenate(corpus.goal)[::5, : len(CURVES)]
    scale = torch.from_numpy(everything.std(0)).clamp(min=0.03)
    unit = lip_opening(spread(torch.eye(len(CURVES)))) - lip_opening(spread(-torch.eye(len(CURVES))))
    real = lip_opening(spread(torch.from_numpy(everything)))
    slopes = unit / real.std()
    exam = batch(np.random.default_rng(1), others, songs, 48, options.rows, prior)

    net = SpeechNet()
    with torch.no_grad():  # begin at the average mouth
        net.out.weight *= 0.1
        net.out.bias[: len(CURVES)] = torch.from_numpy(everything.mean(0))
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} million parameters", flush=True)
    average = {k: v.clone() for k, v in net.state_dict().items()}
    optimiser = torch.optim.AdamW(net.parameters(), lr=options.rate, weight_decay=0.02)
    checkpoint, step = options.out.with_suffix(".checkpoint"), 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(saved["net"])
        optimiser.load_state_dict(saved["optimiser"])
        average, step = saved["average"], saved["step"]
        rng = np.random.default_rng([options.seed, step])
    begun, written, sums = time.process_time(), time.monotonic(), {}
    while step < options.steps:
        part = step / options.steps
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * part)) + 1e-6
        features, goal = batch(rng, corpus, songs, options.batch, options.rows, prior)
        total, parts = loss_of(net(features, net.begin(len(features)))[0], goal, scale, slopes)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step += 1
        keep = min(0.995, (1 + step) / (10 + step))
        for k, v in net.state_dict().items():
            average[k].lerp_(v, 1 - keep)
        sums = {k: sums.get(k, v) * 0.98 + v * 0.02 for k, v in parts.items()}
        done = step == options.steps
        if done or time.monotonic() - written > 60:
            written = time.monotonic()
            torch.save(
                {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "average": average, "step": step},
                checkpoint,
            )
            smooth = SpeechNet()
            smooth.load_state_dict(average)
            write(options.out, average, prior, mouths, recipe, step, corpus.minutes)
            now = ", ".join(f"{k} {v:.3f}" for k, v in sums.items())
            print(f"step {step} ({time.process_time() - begun:.0f} s): {now}; {judge(smooth, *exam)}", flush=True)


def write(
    path: Path,
    tensors: dict[str, Tensor],
    prior: np.ndarray,
    mouths: Tensor,
    recipe: str,
    step: int,
    minutes: float,
    history: str = "",
) -> None:
    """The packaged file: half precision, with its recipe."""
    net = SpeechNet()
    meta = {
        "format": "avatar3d.speech_motion", "version": 1, "curves": list(CURVES), "width": net.width,
        "hidden": net.hidden, "recipe": f"python tools/train_speech.py DATA {recipe}", "step": step,
        "history": history,
        "data": f"{minutes:.0f} minutes of synthetic speech by tools/speech_data.py: espeak-ng 1.51, flite 2.2 (slt, "
        "rms, awb, kal16, kal), Piper en_US-joe-medium; no recording of a person",
        "licence": "Apache-2.0",
    }  # fmt: skip
    half = {k: v.half().contiguous() for k, v in tensors.items()} | {
        "prior": torch.from_numpy(prior).float(),
        "mouths": mouths,
    }
    with storage.replacing(path) as temporary:
        save_file(half, temporary, metadata={"avatar3d": json.dumps(meta)})


if __name__ == "__main__":
    main()
