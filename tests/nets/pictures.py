"""Reads pictures, frames and landmark annotations for the network tests."""

import json
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps


def read_image(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def read_frames(path: Path, count: int, start: int = 0) -> list[np.ndarray]:
    frames = []
    with av.open(str(path)) as video:
        for i, frame in enumerate(video.decode(video=0)):
            if i >= start + count:
                break
            if i >= start:
                frames.append(frame.to_ndarray(format="rgb24"))
    return frames


def read_pts(path: Path) -> np.ndarray:
    """iBUG's .pts: Matlab's pixel indices, so the centre of the first pixel is (1, 1); ours is (0.5, 0.5)."""
    text = path.read_text()
    values = text[text.index("{") + 1 : text.index("}")].split()
    return np.array(values, dtype=np.float64).reshape(-1, 2) - 0.5


# 68 of the 98 points of WFLW and of the 106 of LaPa
_JAW = list(range(0, 33, 2))
SUBSETS = {
    68: list(range(68)),
    98: [*_JAW, *range(33, 38), *range(42, 47), *range(51, 60), 60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75,
         *range(76, 96)],
    106: [*_JAW, *range(33, 38), *range(42, 47), *range(51, 55), *range(58, 63), 66, 67, 69, 70, 71, 73, 75, 76, 78,
          79, 80, 82, *range(84, 104)],
}  # fmt: skip


def read_coco(path: Path) -> list[tuple[str, np.ndarray]]:
    """File names and 68 points of each annotated face, in pixels with centres at 0.5."""
    table = json.loads(path.read_text())
    names = {image["id"]: image["file_name"] for image in table["images"]}
    faces = []
    for annotation in table["annotations"]:
        points = np.array(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)[:, :2] + 0.5
        faces.append((names[annotation["image_id"]], points[SUBSETS[len(points)]]))
    return faces
