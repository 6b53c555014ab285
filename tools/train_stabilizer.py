"""Trains the networks of `avatar3d stabilize` on pairs drawn from the packaged head model.

python tools/train_stabilizer.py -o avatar3d/nets/weights/stabilizer.safetensors --weigher 1000 --locator 360

One process, one thread; the file is written every minute and can be used at any time. `--resume FILE` starts from its
weights, and the header tells all stages. The packaged file had eight, of 2 h 56 min of one core together; the first
four saw no shapes that leak (`Motions.leaks`) and weaker expressions:

    --seed 0 --weigher 1000 --locator 360
    --seed 11 --weigher 1320 --locator 0 --rate 1.5e-3 --resume FILE
    --seed 12 --weigher 440 --locator 0 --rate 1.2e-3 --resume FILE
    --seed 13 --weigher 537 --locator 0 --rate 1.2e-3 --resume FILE
    --seed 21 --weigher 2400 --locator 0 --rate 1.5e-3 --deadline 2460 --resume FILE       (752 steps, 245 s)
    --seed 22 --weigher 2700 --locator 0 --rate 1.3e-3 --resume FILE
    --seed 23 --weigher 2400 --locator 0 --rate 1.2e-3 --resume FILE
    --seed 24 --weigher 1560 --locator 0 --rate 1.0e-3 --resume FILE
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from math import cos, pi
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from stabilizer.pairs import Generator, Pairs

from avatar3d import models
from avatar3d.geometry.rotation import quat_to_matrix
from avatar3d.geometry.transform import apply
from avatar3d.nets.stabilizer import Locator, Weigher, look, neighbours
from avatar3d.stabilize.patches import coarse

MM = 1e-3
KNEE = 1e-4
"""Errors below this are all good: what is gained there is not worth a pair that is far off."""
FRESH, FEW, POOL = 0.4, 4, 24
"""Share of the steps that see new pairs, where there are so many batches already; batches that are kept."""
FORMAT = {"format": "avatar3d.stabilizer", "version": 1}


def locator_loss(network: Locator, generator: Generator, pairs: Pairs) -> tuple[Tensor, dict]:
    """Laplace likelihood of the positions on the mean head, from any orientation."""
    pairs = Pairs(**{name: torch.cat([value] * 3) for name, value in vars(pairs).items()})  # three orientations each
    b = len(pairs.x)
    R = quat_to_matrix(generator.normal_(b, 4))
    near_upright = quat_to_matrix(torch.cat([torch.full((b, 1), 3.0), generator.normal_(b, 3)], 1))
    R = torch.where(generator.chance(0.5, b)[:, None, None], near_upright, R)
    seed = int(torch.randint(2**31, (1,), generator=generator.rng))
    points, normals, target, mask, _, _ = coarse(pairs.x @ R.mT, pairs.normal @ R.mT, pairs.mean_head, seed=seed)
    place, log_error = network(points, normals, mask, neighbours(points, mask))
    off = (place - target).norm(dim=-1)
    loss = ((off / log_error.exp() + 3 * log_error) * mask).sum() / mask.sum()
    return loss, {"off_mm": float((off.detach() * mask).sum() / mask.sum() / MM)}


def weigher_loss(network: Weigher, generator: Generator, pairs: Pairs) -> tuple[Tensor, dict]:
    """Error of the skull in log terms after every step, and likelihood of the skin's own motion."""
    patches, own, skull, T_true = generator.located(pairs)
    truth = apply(T_true, skull)
    m = patches.mask
    total, words = torch.zeros(()), {}
    for i, (seen, part) in enumerate(zip(look(network, patches, steps=2), (0.5, 1.5), strict=True)):
        error = (apply(seen.T_y_x, skull) - truth).norm(dim=-1).mean(1)
        n = seen.own.shape[1]
        likelihood = (own[:, :n] - seen.own).norm(dim=-1) / seen.log_error.exp() + 3 * seen.log_error
        likelihood = (likelihood * m[:, :n]).sum() / m[:, :n].sum()
        size = torch.log1p(error / KNEE) + (error / MM).clamp(max=20)
        total = total + part * (size.mean() + 0.1 * likelihood)
        words[f"mm{i}"] = float(error.detach().median() / MM)
    words["p90"] = float(error.detach().quantile(0.9) / MM)
    return total / 2, words


def train(
    network: torch.nn.Module,
    loss_of: Callable[..., tuple[Tensor, dict]],
    generator: Generator,
    seconds: float,
    rate: float,
    batch: int,
    save: Callable[[], None],
    deadline: float = float("inf"),
) -> int:
    """Adam with a cosine schedule over time; steps with a broken gradient are left out.

    Returns:
        Steps.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    start = saved = time.process_time()
    begun = time.monotonic()
    mean: dict[str, float] = {}
    pool: list[Pairs] = []
    step = 0
    while True:
        spent, waited = time.process_time() - start, time.monotonic() - begun
        progress = max(spent / seconds, waited / deadline)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + cos(pi * progress)))
        if len(pool) < FEW or float(generator.uniform(1)) < FRESH:
            with torch.no_grad():
                pool = [*pool[1 - POOL :], generator.draw(batch)]
            pairs = pool[-1]
        else:  # others of late once more: other patches of them, seen from elsewhere
            pairs = pool[int(torch.randint(len(pool), (1,), generator=generator.rng))]
        loss, words = loss_of(network, generator, pairs)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        if torch.isfinite(norm):
            optimizer.step()
        for key, value in {"loss": float(loss.detach()), **words}.items():
            mean[key] = value if key not in mean else 0.98 * mean[key] + 0.02 * value
        step += 1
        if step % 50 == 0:
            told = " ".join(f"{k} {v:.3f}" for k, v in mean.items())
            print(f"{type(network).__name__} {step} {spent:.0f}s {told}", flush=True)
        if time.process_time() - saved > 60:
            saved = time.process_time()
            save()
    return step


def main() -> None:
    """Trains one network after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--locator", type=float, default=360, help="seconds of processor time")
    parser.add_argument("--weigher", type=float, default=1000, help="seconds of processor time")
    parser.add_argument("--deadline", type=float, default=float("inf"), help="seconds by the clock, for each network")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", default="", help="what the header is to say of this stage")
    parser.add_argument("--resume", type=Path, help="start from this file's weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    generator = Generator(models.load("head"), arguments.seed)
    networks = {"locator": Locator(), "weigher": Weigher()}
    stages: list[dict] = []
    if arguments.resume:
        with safe_open(arguments.resume, framework="pt") as file:
            stages = json.loads(file.metadata()["avatar3d"])["stages"]
        state = load_file(arguments.resume)
        for name, network in networks.items():
            network.load_state_dict({k.removeprefix(f"{name}."): v.float() for k, v in state.items()
                                     if k.startswith(f"{name}.")})  # fmt: skip
    stages.append({"seed": arguments.seed, "batch": arguments.batch, "rate": arguments.rate,
                   "seconds": {"weigher": arguments.weigher, "locator": arguments.locator}, "steps": {},
                   **({"note": arguments.note} if arguments.note else {})})  # fmt: skip
    recipe = {**FORMAT, "licence": "Apache-2.0", "source": "tools/train_stabilizer.py on the packaged head model",
              "stages": stages}  # fmt: skip

    def save() -> None:
        state = {f"{name}.{k}": v.half().contiguous() for name, network in networks.items()
                 for k, v in network.state_dict().items()}  # fmt: skip
        temporary = arguments.output.with_suffix(".tmp")
        save_file(state, temporary, {"avatar3d": json.dumps(recipe)})
        temporary.replace(arguments.output)

    for name, loss_of in (("weigher", weigher_loss), ("locator", locator_loss)):
        seconds = getattr(arguments, name)
        if seconds:
            steps = train(networks[name], loss_of, generator, seconds, arguments.rate, arguments.batch, save,
                          arguments.deadline)  # fmt: skip
            stages[-1]["steps"][name] = steps
            save()


if __name__ == "__main__":
    main()
