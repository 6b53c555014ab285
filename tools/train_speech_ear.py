"""Trains what reads the mouth off the encoder of `hama` (`avatar3d/nets/speech_ear.py`), for sound that is a file.

    python tools/speech_recordings.py DATA --packages PACKAGES
    python tools/train_speech_ear.py DATA --packages PACKAGES --out avatar3d/nets/weights/speech_ear.safetensors

The encoder stays as it is; only the reader learns, from the same voices as the streaming network: the recordings of
`speech_recordings.py` (their phones are in its shards), and speech synthesised here. Voices are heard in rooms, through
microphones and in noise; the encoder's answers are kept in DATA/ear, so that a second training begins at once. The
speaker `--held` is never learnt from.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import hama_network
import numpy as np
import torch
from safetensors.torch import save_file
from speech_corpus import COLUMNS, shard, targets, unbroken
from speech_data import STRETCHES, room, speak, stretched
from speech_recordings import SPEAKERS, prompts
from torch import Tensor
from torch.nn import functional
from train_speech import Measure, curve_losses

from avatar3d import storage
from avatar3d.drive.speech.phones import Speech
from avatar3d.errors import AvatarError
from avatar3d.evaluate.speech_motion import correlation, lip_opening
from avatar3d.nets.mel import SAMPLE_RATE, MelFrames
from avatar3d.nets.speech_ear import BLOCKS, Encoder, Reader
from avatar3d.nets.speech_motion import CLASSES, CONTACTS, CURVES, ROW, answered, spread

_N, _M = len(CURVES), len(CURVES) + len(CONTACTS)
_PIECE = 14.0  # seconds of one voice that are heard at a time
MINUTES = {"espeak": 26.0, "flite": 20.0, "piper": 6.0, "noise": 3.0}
"""What is synthesised besides the recordings."""


def encoder_of_hama() -> Encoder:
    """The package's encoder, as it is."""
    arrays, encoder = hama_network.arrays(), Encoder()
    own = encoder.state_dict()
    state = {
        "bands": arrays["mel_fb"], "front.weight": arrays["onnx::Conv_801"], "front.bias": arrays["onnx::Conv_802"],
    }  # fmt: skip
    for i in range(BLOCKS):
        theirs = hama_network.block_weights(i)
        for ours, name in hama_network.PARTS.items():
            for part in ("weight", "bias"):
                key = f"blocks.{i}.{ours}.{part}"
                state[key] = theirs[f"{name}.{part}"].reshape(own[key].shape)
    encoder.load_state_dict(state)
    return encoder.requires_grad_(False).eval()


def recorded(folder: Path, packages: Path, language: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prompts at the pace of the shards, each once, with the targets of the phones that were found in them."""
    sounds, done = {name: samples for name, samples, _ in prompts(packages, language)}, set()
    for path in sorted(folder.glob(f"{SPEAKERS[language]}_{language}-*.npz")):
        _, goals, notes = shard(path)
        for goal, note in zip(goals, notes, strict=True):
            if note["voice"] not in done:
                said = Speech(samples=sounds[note["voice"]], rate=SAMPLE_RATE, phones=())
                yield stretched(said, note["stretch"])[0], goal
            done.add(note["voice"])


def synthetic(rng: np.random.Generator, engine: str, minutes: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Utterances of random voices."""
    seconds = 0.0
    while seconds < 60 * minutes:
        factor = float(rng.choice(STRETCHES))
        try:
            speech, _ = speak(rng, engine, factor)
        except AvatarError as error:
            print(error)
            continue
        sound, phones = stretched(speech, factor)
        seconds += len(sound) / SAMPLE_RATE
        mel = MelFrames()(torch.from_numpy(sound).float()).numpy()
        yield sound, targets(unbroken(phones, mel), len(sound) // ROW)


def nothing(rng: np.random.Generator, minutes: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Noises, in which nobody speaks."""
    count = int(_PIECE * 50)
    for _ in range(round(60 * minutes / _PIECE)):
        yield noise(rng, count * ROW) * 10 ** rng.uniform(-3, 0), np.zeros((count, COLUMNS), np.float32)


def pieces(
    rng: np.random.Generator, said: Iterator[tuple[np.ndarray, np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Utterances one after another with pauses: sound of some seconds, and its targets."""
    sounds: list[np.ndarray] = []
    goals: list[np.ndarray] = []
    for sound, goal in said:
        pause, count = int(rng.integers(3, 40)), min(len(goal), len(sound) // ROW)
        level = 10 ** (-rng.uniform(0, 6) / 20) / max(float(np.abs(sound).max()), 1e-3)
        sounds += [np.zeros(pause * ROW), level * sound[: count * ROW]]
        goals += [np.zeros((pause, COLUMNS), np.float32), goal[:count]]
        if sum(map(len, goals)) > 50 * _PIECE:
            yield np.concatenate(sounds), np.concatenate(goals)
            sounds, goals = [], []
    if sounds:
        yield np.concatenate(sounds), np.concatenate(goals)


def noise(rng: np.random.Generator, count: int) -> np.ndarray:
    """Hiss, rumble or hum, its loudness coming and going; root mean square 1."""
    t = np.arange(count) / SAMPLE_RATE
    if rng.random() < 0.25:
        pitch = rng.uniform(35, 260)
        out = sum(
            np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k ** rng.uniform(0.3, 2) for k in range(1, 20)
        )
        out = out + 0.1 * rng.standard_normal(count)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(count))
        hertz = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 40)
        out = np.fft.irfft(spectrum * hertz ** -rng.uniform(0, 1.1), count)
    out = out * (1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * rng.uniform(0.05, 3) * t + rng.uniform(0, 6)))
    return out / (out.std() + 1e-9)


def disturbed(rng: np.random.Generator, sound: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """In a room, through a microphone, with something else to hear; a peak of 0.8."""
    if rng.random() < 0.45:
        sound = room(rng, sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    x = np.log2(np.maximum(hertz, 60) / 1000)
    gain = rng.uniform(-3, 3) * x + sum(rng.normal(0, 2.5) * np.cos(k * x + rng.uniform(0, 6)) for k in (1, 2, 3))
    if rng.random() < 0.12:  # a telephone
        gain = gain - 12 * np.clip(np.maximum((hertz - 3400) / 300, (300 - hertz) / 80), 0, 4)
    sound = np.fft.irfft(np.fft.rfft(sound) * 10 ** (gain / 20), len(sound))
    if rng.random() < 0.6:
        other = noise(rng, len(sound))
        if others and rng.random() < 0.25:  # people talk behind
            chosen = [others[int(rng.integers(len(others)))] for _ in range(5)]
            other = sum(np.resize(voice, len(sound)) for voice in chosen)
            other = other / (other.std() + 1e-9)
        loud = np.sqrt(np.quantile(sound**2, 0.9))
        sound = sound + other * loud * 10 ** (-rng.uniform(2, 32) / 20)
    return sound * (0.8 / max(float(np.abs(sound).max()), 1e-4))


def heard(encoder: Encoder, sound: np.ndarray) -> np.ndarray:
    """Rows of ours `[t, 288]`, float16."""
    moved = functional.pad(torch.from_numpy(sound[ROW // 2 :]).float(), (0, ROW // 2))
    with torch.inference_mode():
        return encoder(moved[None])[0, : len(sound) // ROW].half().numpy()


def collected(
    name: str, said: Iterator[tuple[np.ndarray, np.ndarray]], folder: Path, seed: int, clean: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the encoder hears in all pieces, and their targets; kept in a file."""
    path = folder / "ear" / f"{name}.npz"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        encoder, rng, begun = encoder_of_hama(), np.random.default_rng([seed, len(name)]), time.process_time()
        others: list[np.ndarray] = []
        inside, goals = [], []
        for sound, goal in pieces(rng, said):
            changed = sound * 0.8 / max(np.abs(sound).max(), 1e-4) if clean else disturbed(rng, sound, others)
            others = [*others[-7:], sound]
            rows = heard(encoder, changed)
            inside.append(rows)
            goals.append(goal[: len(rows)].astype(np.float16))
        with storage.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, inside=np.concatenate(inside), goal=np.concatenate(goals), lengths=[len(g) for g in goals])
        print(f"{name}: {sum(map(len, goals)) / 3000:.1f} minutes, {time.process_time() - begun:.0f} s", flush=True)
    with np.load(path) as file:
        ends = np.cumsum(file["lengths"])[:-1]
        return list(zip(np.split(file["inside"], ends), np.split(file["goal"], ends), strict=True))


def loss_of(out: Tensor, goal: Tensor, measure: Measure) -> tuple[Tensor, dict[str, float]]:
    """Curves and opening as for the streaming network; contacts with even weights; classes."""
    contacts = functional.binary_cross_entropy_with_logits(
        out[..., _N:_M], goal[..., _N:_M], pos_weight=torch.tensor([2.0, 2.0, 1.0])
    )
    parts = curve_losses(out, goal, measure) | {
        "contacts": 3 * contacts,
        "classes": 0.4 * functional.cross_entropy(out[..., _M:].flatten(0, 1), goal[..., _M].long().flatten()),
    }
    return sum(parts.values()), {name: float(value.detach()) for name, value in parts.items()}


@torch.inference_mode()
def judge(reader: Reader, exam: list[tuple[np.ndarray, np.ndarray]], measure: Measure) -> str:
    """Figures on speech that was not trained on."""
    openings, right, rows = [], 0, 0
    logits: dict[str, list[float]] = {}
    for inside, real in exam:
        out = reader(torch.from_numpy(inside[None]).float())[0]
        goal = torch.from_numpy(real).float()
        made = lip_opening(spread(answered(out, measure.mouths)))
        openings.append(correlation(made, lip_opening(spread(goal[:, :_N]))))
        right, rows = right + int((out[:, _M:].argmax(1) == goal[:, _M]).sum()), rows + len(goal)
        near = functional.max_pool1d(goal[:, _N][None, None], 7, 1, 3)[0, 0]
        for k, name in enumerate(CLASSES):
            chosen = goal[:, _N] > 0.9 if name == "bilabial" else (goal[:, _M] == k) & (near < 0.1)
            logits.setdefault(name, []).extend(out[chosen, _N].tolist())
    edge = float(np.quantile(logits["bilabial"], 0.1))
    wrong = {k: float((np.array(logits[k]) > edge).mean()) for k in ("labiodental", "tongue", "open") if logits[k]}
    told = ", ".join(f"{k} {v:.3f}" for k, v in wrong.items())
    return f"opening {np.mean(openings):.3f}, classes {right / rows:.3f}, at 90 % of closed rows ({edge:.2f}): {told}"


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--packages", type=Path, required=True, help="where speech_recordings.py put the packages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--held", default="fr", choices=tuple(SPEAKERS), help="language of the speaker to judge by")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rows", type=int, default=300, help="rows of 20 ms in a segment")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    groups: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    for language in SPEAKERS:
        said = recorded(options.data, options.packages, language)
        found = collected(language, said, options.data, options.seed, language == options.held)
        if language == options.held:
            exam = found
        else:
            groups[0] += found
    for name, minutes in MINUTES.items():
        rng = np.random.default_rng([options.seed, len(name), 7])
        said = nothing(rng, minutes) if name == "noise" else synthetic(rng, name, minutes)
        groups[1] += collected(name, said, options.data, options.seed, name == "noise")
    groups = [[(a, b) for a, b in group if len(a) > options.rows] for group in groups]
    recipe = " ".join(f"--{k} {v}" for k, v in vars(options).items() if k not in ("data", "out", "packages"))
    total = sum(len(a) for group in groups for a, _ in group) / 3000
    print(f"{total:.0f} minutes to learn, {sum(len(a) for a, _ in exam) / 3000:.0f} to judge; {recipe}", flush=True)

    measure = Measure([b.astype(np.float32) for group in groups for _, b in group])
    rng, reader = np.random.default_rng(options.seed), Reader()
    with torch.no_grad():  # begin at the average mouth
        reader.out.weight *= 0.1
        reader.out.bias[:_N] = measure.mean
    print(f"{sum(p.numel() for p in reader.parameters()) / 1e6:.2f} million parameters", flush=True)
    average = {k: v.clone() for k, v in reader.state_dict().items()}
    optimiser = torch.optim.AdamW(reader.parameters(), lr=options.rate, weight_decay=0.02)
    begun, written, sums = time.process_time(), time.monotonic(), {}
    for step in range(1, options.steps + 1):
        share = 0.5 + 0.5 * math.cos(math.pi * step / options.steps)
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(step / 50, share) + 1e-6
        inside = np.zeros((options.batch, options.rows, groups[0][0][0].shape[1]), np.float32)
        goal = np.zeros((options.batch, options.rows, COLUMNS), np.float32)
        for k in range(options.batch):
            chosen = groups[k % 2]
            a, b = chosen[int(rng.integers(len(chosen)))]
            first = int(rng.integers(len(a) - options.rows))
            inside[k], goal[k] = a[first : first + options.rows], b[first : first + options.rows]
        x = functional.dropout(torch.from_numpy(inside), 0.1)
        loss, parts = loss_of(reader(x), torch.from_numpy(goal), measure)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        keep = min(0.995, (1 + step) / (10 + step))
        for k, v in reader.state_dict().items():
            average[k].lerp_(v, 1 - keep)
        sums = {k: sums.get(k, v) * 0.98 + v * 0.02 for k, v in parts.items()}
        if step == options.steps or time.monotonic() - written > 60:
            written = time.monotonic()
            smooth = Reader()
            smooth.load_state_dict(average)
            write(options.out, average, measure, recipe, step, total)
            now = ", ".join(f"{k} {v:.3f}" for k, v in sums.items())
            spent = time.process_time() - begun
            print(f"step {step} ({spent:.0f} s): {now}; {judge(smooth.eval(), exam, measure)}", flush=True)


def write(path: Path, tensors: dict[str, Tensor], measure: Measure, recipe: str, step: int, minutes: float) -> None:
    """The packaged file: half precision, with its recipe."""
    meta = {
        "format": "avatar3d.speech_ear", "version": 1, "curves": list(CURVES), "step": step,
        "recipe": f"python tools/train_speech_ear.py DATA --packages PACKAGES {recipe}",
        "data": f"{minutes:.0f} minutes: synthetic speech (espeak-ng 1.51; flite 2.2; Piper en_US-joe-medium), human "
        "speech of Debian's asterisk-core-sounds 1.6.1 (CC-BY-SA-3.0, Italian and Russian CC-BY-3.0)",
        "encoder": "that of the phoneme recogniser of the package hama 1.7.0, Apache-2.0, unchanged",
        "licence": "Apache-2.0; see NOTICE",
    }  # fmt: skip
    encoder = encoder_of_hama().state_dict()
    half = {f"encoder.{k}": v for k, v in encoder.items()} | {f"reader.{k}": v for k, v in tensors.items()}
    half = {k: v.half().contiguous() for k, v in half.items()} | {"mouths": measure.mouths}
    with storage.replacing(path) as temporary:
        save_file(half, temporary, metadata={"avatar3d": json.dumps(meta)})


if __name__ == "__main__":
    main()
