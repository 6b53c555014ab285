"""Learns the mean error of the landmark network as a function of the view, from rendered pictures of the head model.

    python tools/make_calibration.py [-o FILE]

Pictures are those of `make_landmarks.py` with wider turns: heads of random identity, expression, pose, skin, hair and
light. Takes three minutes. Prints the error before and after on pictures that it did not learn from, as
fractions of the landmarks' root mean square distance from their mean (about 0.63 inter-ocular distances).
"""

import argparse
import json
from pathlib import Path

import torch
from make_landmarks import landmark_network

from avatar3d import models
from avatar3d.models.embedding import gather
from avatar3d.models.views import ViewConfig, face_box, random_views
from avatar3d.track.calibration import PATH, correct, learn, normalised, save_calibration

OUT = Path(__file__).resolve().parents[1] / "avatar3d" / PATH
VIEWS = ViewConfig(yaw=24.0, pitch=12.0, identity=0.8)
PICTURES = {50000: 1000, 50001: 1000, 50002: 1500, 50003: 1500}
"""Seeds, and how many of each."""
HELD = 5
"""One in so many is judged by and not learned from."""


def observe(model, detect) -> tuple[torch.Tensor, torch.Tensor]:
    """Detected and true landmarks of random pictures, pixels."""
    embedding = model.landmarks["mediapipe478"]
    found, true = [], []
    for seed, count in PICTURES.items():
        for view in random_views(model, count, seed, VIEWS):
            points = detect(view.image, face_box(model, view))
            if points is not None:
                found.append(points)
                true.append(gather(view.pixels[None], model.faces[embedding.faces], embedding.weights)[0])
    return torch.stack(found), torch.stack(true)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = models.load("head")
    found, true = observe(model, landmark_network())
    held = torch.arange(len(found)) % HELD == 0
    trial = learn(found[~held], true[~held])
    size = normalised(found[held])[2]

    def error(points: torch.Tensor) -> float:
        return float(((points - true[held]) / size)[:, :468].square().sum(2).mean().sqrt())

    print(
        json.dumps({"pictures": len(found), "before": error(found[held]), "after": error(correct(trial, found[held]))})
    )
    save_calibration(args.out, learn(found, true))


if __name__ == "__main__":
    main()
