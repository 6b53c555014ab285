"""LPIPS (Zhang et al., CVPR 2018) where its package and weights are installed: never required, never downloaded."""

import importlib
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.typing import typed

NETWORK = "alex"
"""The network that papers on avatars state LPIPS with."""


class Lpips:
    """The distance that the package `lpips` computes."""

    network = f"lpips 0.1, {NETWORK}"

    def __init__(self) -> None:
        """Loads the weights.

        Raises:
            ImportError: package or weights are not installed; the message says which, in one line.
        """
        try:
            package, vision = importlib.import_module("lpips"), importlib.import_module("torchvision.models")
        except (ImportError, RuntimeError, OSError) as error:  # torchvision of another torch raises RuntimeError
            line = str(error).splitlines()[0]
            raise ImportError(f"LPIPS is not scored: {line}. It needs `pip install lpips`.") from error
        file = Path(torch.hub.get_dir()) / "checkpoints" / vision.AlexNet_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]
        if not file.is_file():
            raise ImportError(
                f"LPIPS is not scored: {file.name} is not in {file.parent}. torchvision.models.alexnet("
                'weights="DEFAULT") fetches it once.'
            )
        self._network = package.LPIPS(net=NETWORK, verbose=False).eval()

    @typed
    @torch.no_grad()
    def __call__(self, picture: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"]) -> float:
        """Distance of two pictures in 0..1; 0 is the same."""
        pair = torch.stack([picture, target]).permute(0, 3, 1, 2).float()
        return float(self._network(pair[:1], pair[1:], normalize=True))


def find_lpips() -> tuple[Lpips | None, str]:
    """The metric, or None and a line that says what is missing."""
    try:
        return Lpips(), ""
    except ImportError as error:
        return None, str(error)
