"""What is known of MediaPipe's 478 points beside their numbers: mirror images, lips, lids, irises, outline."""

import torch
from jaxtyping import Int
from torch import Tensor

# Left is the subject's left. Rows run from the subject's right corner to the left one; corners are apart.
LIP_CORNERS_OUTER, LIP_CORNERS_INNER = (61, 291), (78, 308)
LIPS_UPPER = (
    (185, 40, 39, 37, 0, 267, 269, 270, 409),
    (184, 74, 73, 72, 11, 302, 303, 304, 408),
    (183, 42, 41, 38, 12, 268, 271, 272, 407),
    (191, 80, 81, 82, 13, 312, 311, 310, 415),
)
"""Four rows of the upper lip, from the outer edge to the inner."""
LIPS_LOWER = (
    (146, 91, 181, 84, 17, 314, 405, 321, 375),
    (77, 90, 180, 85, 16, 315, 404, 320, 307),
    (96, 89, 179, 86, 15, 316, 403, 319, 325),
    (95, 88, 178, 87, 14, 317, 402, 318, 324),
)
LIP_CORNERS = (61, 76, 62, 78, 291, 306, 292, 308)
LIDS_UPPER = {"right": (246, 161, 160, 159, 158, 157, 173), "left": (466, 388, 387, 386, 385, 384, 398)}
"""Margin of the upper lid, from the temple to the nose."""
LIDS_LOWER = {"right": (7, 163, 144, 145, 153, 154, 155), "left": (249, 390, 373, 374, 380, 381, 382)}
EYE_CORNERS = {"right": (33, 133), "left": (263, 362)}
"""Temporal, nasal."""
IRIS = {"right": (468, 469, 470, 471, 472), "left": (473, 474, 475, 476, 477)}
"""Centre, then right, top, left and bottom as the picture shows them."""
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""The face's outline, from the forehead over the subject's left side."""
COUNT = 478
_MIDLINE = (0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 94, 151, 152, 164, 168, 175, 195, 197,
            199, 200)  # fmt: skip
_IRIS_PAIRS = {468: 473, 469: 476, 470: 475, 471: 474, 472: 477}


def mirror_points() -> Int[Tensor, "478"]:
    """Index of every point's mirror image: the right side is numbered first, the left in the same order after it."""
    out = torch.arange(COUNT)
    right = torch.tensor([i for i in range(248) if i not in _MIDLINE])
    left = torch.arange(248, 468)
    out[right], out[left] = left, right
    for a, b in _IRIS_PAIRS.items():
        out[a], out[b] = b, a
    return out
