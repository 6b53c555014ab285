"""What the detector gets wrong alike in this face, as a function of the view: learned where pixels told the truth.

Keyframes whose pixels agree (see `photometric`) say where the points of the skin are; where the detector marks them
differs by a part that is the same in like views. It is taken off in all other frames. The view is told by the
landmarks themselves, as in `calibration`, by turn and nod alone.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.track import observe
from avatar3d.track.calibration import FARTHEST, normalised, packaged_calibration
from avatar3d.track.observe import Observations, State
from avatar3d.track.problem import Problem

VIEWS = 2
"""Principal components of the landmarks that tell turn and nod."""
HOLD = (0.3, 3.0)
"""Pictures that the prior counts as much as, at no error: for the constant part, and for what changes with the view."""


def features(landmarks: Float[Tensor, "o l 2"]) -> tuple[Float[Tensor, "o f"], Tensor, Tensor]:
    """1, turn, nod, their products and absolute values; the rotation and size that landmarks were brought to."""
    calibration = packaged_calibration()
    upright, Q, size = normalised(landmarks.double())
    p = (upright.flatten(1) - calibration.mean.double()) @ calibration.axes[:, :VIEWS].double()
    p = p.clamp(-FARTHEST, FARTHEST)
    return torch.cat([torch.ones_like(p[:, :1]), p, p[:, :1] * p, p[:, 1:].square(), p.abs()], 1), Q, size


def corrected(problem: Problem, keyframes: Observations, state: State, obs: Observations) -> Observations:
    """Observations with this person's mean error of the detector taken off.

    Args:
        problem: The model with the person's surface.
        keyframes: Pictures from which the error is learned.
        state: Their true poses, expressions and identity.
        obs: All pictures.
    """
    F, Q, size = features(keyframes.detections)
    error = (keyframes.detections - observe.project(problem, keyframes, state)) @ Q.mT / size
    usable = torch.isfinite(problem.sigma)
    weight = observe.visibility(problem, keyframes, state) * keyframes.confidence * usable
    hold = torch.full((F.shape[1],), HOLD[1], dtype=F.dtype)
    hold[0] = HOLD[0]
    normal = torch.einsum("of,ol,og->lfg", F, weight, F) + torch.diag(hold)
    learned = torch.linalg.solve(normal, torch.einsum("of,ol,olc->lfc", F, weight, error))
    F, Q, size = features(obs.detections)
    away = torch.einsum("of,lfc->olc", F, learned) @ Q * size
    seen = obs.confidence.amax(1) > 0
    detections = torch.where(seen[:, None, None], obs.detections - away, obs.detections)
    return replace(obs, detections=detections)
