"""Where data lives: what is packaged with avatar3d, and what the user brings in `$AVATAR3D_ASSETS`."""

import os
from pathlib import Path

from avatar3d.errors import AssetError

PACKAGE = Path(__file__).parent


def packaged(relative: str) -> Path:
    """Path of a file that ships with avatar3d.

    Raises:
        AssetError: the file is not there, i.e. the installation is damaged.
    """
    path = PACKAGE / relative
    if not path.exists():
        raise AssetError(f"{relative} should be part of avatar3d and is missing. Reinstall with `pip install .`.")
    return path


def asset_roots() -> list[Path]:
    """Folders that are searched for the user's models, in order.

    `$AVATAR3D_ASSETS`, then `assets/` of the working directory, then `assets/` of a source checkout.
    """
    roots = [Path(os.environ["AVATAR3D_ASSETS"])] if os.environ.get("AVATAR3D_ASSETS") else []
    roots += [Path.cwd() / "assets", PACKAGE.parent / "assets"]
    return list(dict.fromkeys(roots))


def user_asset(*relatives: str) -> Path | None:
    """The first of these relative paths that exists in the asset roots, or None."""
    for root in asset_roots():
        for relative in relatives:
            if (root / relative).exists():
                return root / relative
    return None
