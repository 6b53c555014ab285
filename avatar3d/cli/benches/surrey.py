"""The peer of `bench track`: eos-py (Apache-2.0) fitting the Surrey face model to iBUG's 68 points."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from avatar3d.cli.benches.footage import test_data

FOLDER = "3dmm/eos_sfm"
SHAPE, EXPRESSIONS, MAPPING = "sfm_shape_3448.bin", "expression_blendshapes_3448.bin", "ibug_to_sfm.txt"


class Surrey:
    """eos-py with the Surrey model; one picture at a time, as it works. Its defaults: 5 rounds, 63 + 6 coefficients."""

    def __init__(self, eos: ModuleType, folder: Path) -> None:
        """Loads the model."""
        self._eos = eos
        shape = eos.morphablemodel.load_model(str(folder / SHAPE))
        self._model = eos.morphablemodel.MorphableModel(
            shape.get_shape_model(),
            eos.morphablemodel.load_blendshapes(str(folder / EXPRESSIONS)),
            color_model=eos.morphablemodel.PcaModel(),
            vertex_definitions=None,
            texture_coordinates=shape.get_texture_coordinates(),
        )
        self._mapper = eos.core.LandmarkMapper(str(folder / MAPPING))
        pairs = re.findall(r"^\s*(\d+)\s*=\s*(\d+)", (folder / MAPPING).read_text(), re.MULTILINE)
        self.points = np.array([int(a) - 1 for a, _ in pairs])
        """Those of the 68 points that the model has."""
        self._vertices = np.array([int(b) for _, b in pairs])

    def landmarks(self, points: Float[np.ndarray, "68 2"]) -> list[Any]:
        """Points as the peer takes them."""
        return [self._eos.core.Landmark(str(i + 1), p) for i, p in enumerate(points)]

    def fit(self, landmarks: list[Any], width: int, height: int) -> Any:
        """Mesh, camera and coefficients of one picture."""
        return self._eos.fitting.fit_shape_and_pose(self._model, landmarks, self._mapper, width, height)

    def project(self, fitted: Any, width: int, height: int) -> Float[np.ndarray, "p 2"]:
        """Where a fit puts `points`, pixels."""
        mesh, camera = fitted[0], fitted[1]
        P = np.array(camera.get_projection()) @ np.array(camera.get_modelview())
        X = np.array(mesh.vertices)[self._vertices]
        x = np.c_[X, np.ones(len(X))] @ P.T
        x = x[:, :2] / x[:, 3:]
        return np.c_[(0.5 * x[:, 0] + 0.5) * width, (0.5 - 0.5 * x[:, 1]) * height]


def load_surrey() -> tuple[Surrey | None, str]:
    """The peer, or None and why not."""
    folder = test_data(FOLDER)
    if folder is None:
        return None, f"no {FOLDER} in $AVATAR3D_TEST_DATA"
    try:
        import eos
    except ImportError:
        return None, "eos-py is not installed (pip install eos-py==1.5.0)"
    return Surrey(eos, folder), ""
