"""ARKit coefficients from landmarks: Blendshape V2."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.nets.runtime import LiteNetwork
from avatar3d.types.arkit import ARKIT_INDEX, ARKIT_NAMES
from avatar3d.typing import typed

# The landmarks that the network reads, in its order: contours, lids, lips, brows and irises.
INPUTS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)  # fmt: skip

OUTPUTS = ("_neutral", *sorted(name for name in ARKIT_NAMES if name != "tongueOut"))
"""The network's own order: alphabetical, `_neutral` first, no `tongueOut`."""

_INPUTS = torch.tensor(INPUTS)
_TO_ARKIT = np.array([ARKIT_INDEX[name] for name in OUTPUTS[1:]])


class BlendshapeNet:
    """52 ARKit coefficients of a face; about 0.6 ms."""

    def __init__(self) -> None:
        """Loads the network.

        Raises:
            AssetError: the network's file is missing or damaged.
        """
        self._network = LiteNetwork("face_blendshapes")

    @typed
    def __call__(self, points: Float[Tensor, "478 _"], *, tongue: float = 0.0) -> Float[Tensor, "52"]:
        """Coefficients of one face, 0 to 1.

        Args:
            points: Landmarks in pixels; x and y are used.
            tongue: `tongueOut`, which this network does not know.

        Returns:
            Coefficients in the order of `ARKIT_NAMES`.
        """
        scores = self._network(points[_INPUTS, :2].float())[0]
        arkit = np.zeros(len(ARKIT_NAMES), np.float32)
        arkit[_TO_ARKIT] = scores[1:]
        arkit[ARKIT_INDEX["tongueOut"]] = tongue
        return torch.from_numpy(arkit)
