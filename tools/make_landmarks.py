"""Learns where MediaPipe's 478 landmarks lie on a model, from rendered pictures of the model itself.

    python tools/make_landmarks.py [--model head|flame|ict|PATH] [--views 900] [--seed 0] [-o FILE]

Draws heads of random identity, expression (mouths open, lids closed), pose, skin, hair and light, runs the packaged
landmark network on them, and finds for every landmark the surface point that explains the detections best. For `head`
the result is the packaged asset. Takes a minute. Prints the error on pictures that it did not learn
from, as fractions of the inter-ocular distance, and how far the lips' and lids' opening goes with the detector's.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from avatar3d import models
from avatar3d.models import embedding
from avatar3d.models.iris_landmarks import centred_irises
from avatar3d.models.landmark_file import save_landmarks
from avatar3d.models.views import Detect, ViewConfig
from avatar3d.nets.crop import Square
from avatar3d.nets.face_landmarks import LandmarkNet, window_of_points
from avatar3d.types import face_points

OUT = Path(__file__).resolve().parents[1] / "avatar3d" / "models" / "assets"


def landmark_network() -> Detect:
    """The packaged landmark network, told where the face is; a second look is centred by the first."""
    network = LandmarkNet()

    def detect(image: np.ndarray, box: np.ndarray) -> torch.Tensor | None:
        x0, y0, x1, y1 = box.tolist()
        window = Square((x0 + x1) / 2, (y0 + y1) / 2, 1.5 * max(x1 - x0, y1 - y0))
        reading = network(image, window_of_points(network(image, window).points))
        return torch.from_numpy(reading.points[:, :2]).float() if reading.presence > 0.5 else None

    return detect


def openings(points: torch.Tensor) -> dict[str, torch.Tensor]:
    """Distances between upper and lower lip and between the lids, `[n]` each."""
    pairs = {"inner lips": ((13, 14), (82, 87), (312, 317)), "left lids": ((386, 374), (385, 380), (387, 373)),
             "right lids": ((159, 145), (158, 153), (160, 144))}  # fmt: skip
    return {k: torch.stack([(points[:, a] - points[:, b]).norm(dim=1) for a, b in v]).mean(0) for k, v in pairs.items()}


def judge(model, learned, detect: Detect, views: int, seed: int) -> dict:
    """Figures on pictures that were not learned from."""
    out = {}
    settings = {
        "mean head, frontal": ViewConfig(identity=0, expression=0, yaw=2, pitch=2, roll=2),
        "people, frontal, neutral": ViewConfig(expression=0, yaw=4, pitch=4),
        "all": ViewConfig(),
    }
    for name, config in settings.items():
        seen = embedding.observe(model, detect, views, seed, config)
        error = embedding.embedding_error(model, seen, learned.faces, learned.weights)
        known = torch.isfinite(learned.residual)
        out[name] = {"pictures": len(seen.landmarks), "mean": round(float(error[known].mean()), 4),
                     "points 0..467": round(float(error[:468][known[:468]].mean()), 4)}  # fmt: skip
        if name == "all":
            places = embedding.gather(seen.pixels, model.faces[learned.faces], learned.weights)
            for part, ours in openings(places).items():
                theirs = openings(seen.landmarks)[part]
                straight = seen.angles[:, 0].abs() < 20
                x, y = theirs[straight] - theirs[straight].mean(), ours[straight] - ours[straight].mean()
                out[name][part] = {"slope": round(float((x * y).sum() / (x * x).sum()), 3),
                                   "correlation": round(float((x * y).sum() / (x.norm() * y.norm())), 3)}  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="head")
    parser.add_argument("--views", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)  # the steps are small

    model, detect = models.load(args.model, landmarks=False), landmark_network()
    seen = embedding.observe(model, detect, args.views, args.seed)
    learned = centred_irises(model, embedding.solve_embedding(model, seen))
    figures = judge(model, learned, detect, max(60, args.views // 5), args.seed + 1)
    out = args.out or OUT / f"{model.name}_landmarks.safetensors"
    save_landmarks(out, model, learned, {"views": len(seen.landmarks), "seed": args.seed, "figures": figures})
    weak = learned.residual[: face_points.COUNT].nan_to_num(posinf=0).topk(12)
    print(json.dumps(figures, indent=1))
    print(
        "weakest:",
        ", ".join(f"{i} ({r:.3f})" for r, i in zip(weak.values.tolist(), weak.indices.tolist(), strict=True)),
    )
    print(out)


if __name__ == "__main__":
    main()
