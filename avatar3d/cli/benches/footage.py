"""Real footage and models for benchmarks: `$AVATAR3D_TEST_DATA`, which is not part of the project."""

import os
from pathlib import Path

from avatar3d.data import PACKAGE


def test_data(relative: str) -> Path | None:
    """A file of the test data, or None where it is not there."""
    root = os.environ.get("AVATAR3D_TEST_DATA")
    path = (Path(root) if root else PACKAGE.parent.parent / "shared" / "data") / relative
    return path if path.exists() else None
