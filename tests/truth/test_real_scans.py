"""Registration of public scans: how near the mesh comes to them, with landmarks and without."""

import pytest
import torch

from avatar3d import models
from avatar3d.models.mesh_file import read_mesh
from avatar3d.pipeline import reconstruct_scan

CASES = [
    ("scans/flame_fitting_scan.obj", "scans/flame_fitting_scan_lmks51.npy", "m"),
    ("scans/menpo3d_james.obj", None, "mm"),
]


@pytest.mark.slow
@pytest.mark.parametrize("scan, landmarks, unit", CASES)
def test_scan_to_mesh(data, scan, landmarks, unit):
    torch.set_num_threads(2)
    mesh = read_mesh(data(scan))
    points = None if landmarks is None else data(landmarks)
    fitted = reconstruct_scan(mesh, models.load("head"), landmarks=points, texture_size=512)
    surface = fitted.report["surface"]
    assert fitted.report["units"] == unit and fitted.report["scan"]["up_axis"] == "+y"
    assert surface["median_mm"] < 0.3 and surface["p95_mm"] < 1.5 and surface["flipped_triangles"] == 0
    assert surface["coefficients"]["median_mm"] < 1.5
    if mesh.is_coloured:
        assert (fitted.avatar.appearance.seen > 0).float().mean() > 0.3
