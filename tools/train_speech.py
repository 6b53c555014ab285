"""Trains the network of `avatar3d/nets/speech_motion.py` on speech with known phones.

    python tools/speech_data.py DATA --voices piper  --minutes 87  --seed 1
    python tools/speech_data.py DATA --voices flite  --minutes 100 --seed 2
    python tools/speech_data.py DATA --voices espeak --minutes 170 --seed 3
    python tools/speech_recordings.py DATA --packages PACKAGES
    python tools/train_speech.py DATA --packages PACKAGES --out avatar3d/nets/weights/speech_motion.safetensors

It begins from the phoneme recogniser of the package `hama`. A checkpoint is written every minute, and the same command
goes on from it. The speaker `--held` is never learnt from; figures are given for her. `--mean A.checkpoint ...` trains
nothing and writes the mean of checkpoints that were kept on the way: what is heard of strangers gains by it.
"""

import argparse
import json
import math
import time
from pathlib import Path

import hama_network
import numpy as np
import torch
from safetensors.torch import save_file
from speech_augment import loudness, music
from speech_corpus import Corpus, average_mouths, batch
from speech_recordings import prompts
from torch import Tensor
from torch.nn import functional

from avatar3d import storage
from avatar3d.evaluate.speech_motion import lip_opening
from avatar3d.nets.mel import MelFrames, Normaliser
from avatar3d.nets.speech_motion import CLASSES, CONTACTS, CURVES, LOOKAHEAD, SpeechNet, answered, spread

_N, _M = len(CURVES), len(CURVES) + len(CONTACTS)
_AHEAD = torch.tensor([{"jawOpen": 3.0, "mouthClose": 1.5}.get(name, 1.0) for name in CURVES])
_OPEN = CLASSES.index("open")
_ECHO = 1.0
"""What it weighs that the blocks no longer hear what the whole recogniser hears in the same speech without noise."""


def begun(net: SpeechNet, packages: Path, prior: np.ndarray) -> None:
    """Sets the weights to those of the recogniser `hama`, as far as it has them."""
    sounds = [samples for _, samples, _ in prompts(packages, "en")][::6]
    features = [torch.from_numpy(Normaliser(prior)(MelFrames()(x).numpy())) for x in sounds]
    kernel, bias = hama_network.front(features, sounds, net.front.weight.shape[2])
    state = {"front.weight": kernel, "front.bias": bias}
    for i, block in enumerate(net.blocks):
        theirs, ours = hama_network.block_weights(i), block.state_dict()
        for mine, name in hama_network.PARTS.items():
            for part in ("weight", "bias"):
                key, value = f"{mine}.{part}", theirs[f"{name}.{part}"]
                if key == "convolve.depth.weight":  # without most of what it looks ahead
                    value = value[:, :, : ours[key].shape[2]]
                state[f"blocks.{i}.{key}"] = value.reshape(ours[key].shape)
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith(("recurrent", "out")) for name in missing), (missing, unexpected)


class Measure:
    """Lip opening of predicted curves, in units of its spread in the corpus, and what errors of curves weigh."""

    def __init__(self, goals: list[np.ndarray]) -> None:
        everything = torch.from_numpy(np.concatenate(goals)[::5, :_N])
        self.mean, self.scale = everything.mean(0), everything.std(0).clamp(min=0.03)
        unit = lip_opening(spread(torch.eye(_N))) - lip_opening(spread(-torch.eye(_N)))
        self.slopes = unit / lip_opening(spread(everything)).std()
        self.mouths = average_mouths(goals)


def curve_losses(out: Tensor, goal: Tensor, measure: Measure) -> dict[str, Tensor]:
    """Of curves, of the opening of the lips and its speed, and of how it goes along with the true one."""
    shape = ((out[..., :_N] - goal[..., :_N]) / measure.scale).square()
    real = goal[..., :_N] @ measure.slopes
    direct, given = out[..., :_N] @ measure.slopes, answered(out, measure.mouths, gain=1.0) @ measure.slopes
    opening = (
        sum(((x - real).square().mean() + 4 * (x - real).diff(dim=1).square().mean()) for x in (direct, given)) / 2
    )
    return {"shape": (shape * _AHEAD).mean(), "opening": opening, "apart": 1 - _together(given, real).mean()}


def loss_of(
    out: Tensor, inside: Tensor, goal: Tensor, taught: Tensor, measure: Measure
) -> tuple[Tensor, dict[str, float]]:
    """Curves, the opening of the lips and its speed, how it goes along with the true one, contacts, classes, echo."""
    spoken = goal[:, :-LOOKAHEAD, _M - 1].amax(1) > 0.5
    echo = (inside[:, LOOKAHEAD:] - taught[:, :-LOOKAHEAD])[spoken].square().mean() / taught.var()
    out, goal = out[:, LOOKAHEAD:], goal[:, :-LOOKAHEAD]
    parts = curve_losses(out, goal, measure) | {
        "contacts": 2 * _contact_loss(out[..., _N:_M], _early(goal)),
        "echo": _ECHO * echo,
        "classes": 0.4 * functional.cross_entropy(out[..., _M:].flatten(0, 1), goal[..., _M].long().flatten()),
    }
    return sum(parts.values()), {name: float(value.detach()) for name, value in parts.items()}


def _together(a: Tensor, b: Tensor) -> Tensor:
    """Correlation along the second axis; 1 where the second does not move."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    still = b.square().mean(1) < 1e-3
    return torch.where(still, 1.0, functional.cosine_similarity(a, b, dim=1, eps=1e-3))


def _early(goal: Tensor) -> Tensor:
    """Contacts, that begin a row earlier: lips take time to get there. Middles of vowels stay free."""
    contacts = goal[..., _N:_M].clone()
    met, vowel = contacts[..., :2], goal[..., _M:] >= _OPEN
    coming = torch.cat([met[:, 1:], met[:, -1:]], 1)
    contacts[..., :2] = torch.where(vowel & (met == 0), met, torch.maximum(met, coming))
    return contacts


def _contact_loss(logits: Tensor, goal: Tensor) -> Tensor:
    """Cross entropy; lips and teeth may meet a row early or late, but each time they must."""
    plain = functional.binary_cross_entropy_with_logits(logits, goal, pos_weight=torch.tensor([3.0, 2.0, 1.0]))
    near = functional.max_pool1d(logits[..., :2].mT, 3, 1, 1).mT
    sure = goal[..., :2] > 0.9
    missed = functional.softplus(-near)[sure].sum() / sure.sum().clamp(min=1)
    return plain + 0.3 * missed


@torch.inference_mode()
def judge(net: SpeechNet, features: Tensor, goal: Tensor, measure: Measure) -> str:
    """Figures on speech that was not trained on."""
    out = net(features, net.begin(len(features)))[0][:, LOOKAHEAD:]
    goal = goal[:, :-LOOKAHEAD]
    made, plain, real = (
        lip_opening(spread(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        for x in (answered(out, measure.mouths), out[..., :_N], goal[..., :_N])
    )
    right = float((out[..., _M:].argmax(-1) == goal[..., _M]).float().mean())
    near = functional.max_pool1d(out[..., _N : _N + 1].mT, 3, 1, 1).mT[..., 0]
    shut = goal[..., _N] > 0.9
    opened = (goal[..., _M] == _OPEN) & (functional.max_pool1d(goal[..., _N : _N + 1].mT, 5, 1, 2).mT[..., 0] < 0.1)
    recall = float((near[shut].sigmoid() > 0.35).float().mean())
    wrong = float((out[..., _N][opened].sigmoid() > 0.35).float().mean())
    voice = float(((out[..., _M - 1] > 0) == (goal[..., _M - 1] > 0.5)).float().mean())
    return (f"opening {_together(made, real).mean():.3f} (direct {_together(plain, real).mean():.3f}), classes "
            f"{right:.3f}, closed {recall:.3f}, open vowels shut {wrong:.3f}, voice {voice:.3f}")  # fmt: skip


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--packages", type=Path, required=True, help="where speech_recordings.py put the packages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--held", default="june", help="speaker to judge by, whom nothing is learnt from")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rows", type=int, default=200, help="rows of 20 ms in a segment")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mean", type=Path, nargs="+", default=[], help="checkpoints of one training")
    parser.add_argument("--note", default="", help="what the file is to tell of its training besides")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    paths = sorted(options.data.glob("*.npz"))
    held = [p for p in paths if p.name.startswith(options.held)]
    corpus, others = Corpus([p for p in paths if p not in held]), Corpus(held)
    recipe = " ".join(
        f"--{k} {v}" for k, v in vars(options).items() if k not in ("data", "out", "packages", "mean", "note")
    )
    print(f"{corpus.minutes:.0f} minutes to learn, {others.minutes:.0f} to judge; {recipe}", flush=True)

    rng = np.random.default_rng(options.seed)
    loud = np.concatenate([m[m.max(1) > loudness(m.astype(np.float32)) - 2.5][::7] for m in corpus.mel[::5]])
    prior = loud.astype(np.float64).mean(0) - np.log10(np.power(10.0, loud.astype(np.float64)).sum(1)).mean()
    songs = [music(rng, 12) for _ in range(24)]
    measure = Measure(corpus.goal)
    features, _, goal = batch(np.random.default_rng(1), others, songs, 32, options.rows, prior)
    exam = features, goal

    if options.mean:
        kept = [torch.load(path, weights_only=True) for path in options.mean]
        mean = {k: torch.stack([x["average"][k] for x in kept]).mean(0) for k in kept[0]["average"]}
        note = f"{options.note}mean of the weights at steps {', '.join(str(x['step']) for x in kept)}"
        write(options.out, mean, measure, prior, recipe, kept[-1]["step"], corpus, note)
        return
    net = SpeechNet()
    with torch.no_grad():  # begin at the average mouth
        net.out.weight *= 0.1
        net.out.bias[:_N] = measure.mean
    begun(net, options.packages, prior)
    front = [p.clone() for p in (net.front.weight.detach(), net.front.bias.detach())]
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} million parameters", flush=True)
    average = {k: v.clone() for k, v in net.state_dict().items()}
    fresh = [p for name, p in net.named_parameters() if name.startswith(("recurrent", "out"))]
    known = [p for name, p in net.named_parameters() if not name.startswith(("recurrent", "out"))]
    rates = (4 * options.rate, options.rate)  # what begins at random learns faster
    optimiser = torch.optim.AdamW([{"params": fresh}, {"params": known}], lr=options.rate, weight_decay=0.01)
    checkpoint, step = options.out.with_suffix(".checkpoint"), 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(saved["net"])
        optimiser.load_state_dict(saved["optimiser"])
        average, step = saved["average"], saved["step"]
        rng = np.random.default_rng([options.seed, step])
    begun_at, written, sums = time.process_time(), time.monotonic(), {}
    while step < options.steps:
        part = step / options.steps
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * min((step + 1) / 40, 0.5 + 0.5 * math.cos(math.pi * part)) + 1e-6
        features, alone, goal = batch(rng, corpus, songs, options.batch, options.rows, prior)
        with torch.no_grad():
            begin = functional.conv1d(functional.pad(alone.mT, (net.front.weight.shape[2] - 2, 0)), *front, stride=2)
            taught = hama_network.heard_inside(functional.gelu(begin).mT).clone()
        inside, _ = net.heard(features, net.begin(len(features)))
        later, _ = net.recurrent(inside)
        out = net.out(torch.cat([inside, later], 2))
        total, parts = loss_of(out, inside, goal, taught, measure)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step += 1
        keep = min(0.99, (1 + step) / (10 + step))
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
            write(options.out, average, measure, prior, recipe, step, corpus, options.note)
            now = ", ".join(f"{k} {v:.3f}" for k, v in sums.items())
            figures = judge(smooth, *exam, measure)
            print(f"step {step} ({time.process_time() - begun_at:.0f} s): {now}; {figures}", flush=True)


def write(
    path: Path,
    tensors: dict[str, Tensor],
    measure: Measure,
    prior: np.ndarray,
    recipe: str,
    step: int,
    corpus: Corpus,
    note: str,
) -> None:
    """The packaged file: half precision, with its recipe."""
    meta = {
        "format": "avatar3d.speech_motion", "version": 2, "curves": list(CURVES),
        "recipe": f"python tools/train_speech.py DATA --packages PACKAGES {recipe}", "step": step,
        "note": note,
        "data": f"{corpus.minutes:.0f} minutes, copies included: synthetic speech by tools/speech_data.py (espeak-ng "
        "1.51; flite 2.2: slt, rms, awb, kal16, kal; Piper en_US-joe-medium), and human speech by "
        "tools/speech_recordings.py (Debian's asterisk-core-sounds 1.6.1: CC-BY-SA-3.0, Italian and Russian CC-BY-3.0)",
        "begins_from": "the phoneme recogniser of the package hama 1.7.0, Apache-2.0",
        "licence": "Apache-2.0; see NOTICE",
    }  # fmt: skip
    half = {k: v.half().contiguous() for k, v in tensors.items()} | {
        "prior": torch.from_numpy(prior).float(),
        "mouths": measure.mouths,
    }
    with storage.replacing(path) as temporary:
        save_file(half, temporary, metadata={"avatar3d": json.dumps(meta)})


if __name__ == "__main__":
    main()
