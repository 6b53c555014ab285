"""Models by name or path."""

from collections.abc import Callable
from pathlib import Path

from avatar3d.data import packaged
from avatar3d.errors import AssetError
from avatar3d.models import arkit_face, flame, ict, smplx_face
from avatar3d.models.head import load_head, read_head
from avatar3d.models.landmark_file import with_landmarks
from avatar3d.models.linear import LinearModel
from avatar3d.models.tables import with_tables
from avatar3d.typing import typed

NAMES = ("head", "flame", "ict", "arkit", "smplx")
_LOADERS: dict[str, Callable[[], LinearModel]] = {
    "head": load_head,
    "flame": flame.load_flame,
    "ict": ict.load_ict,
    "arkit": arkit_face.load_arkit_face,
    "smplx": smplx_face.load_smplx_face,
}
_HEAD_LANDMARKS = "models/assets/head_landmarks.safetensors"


@typed
def load(model: str | Path = "head", *, landmarks: bool = True) -> LinearModel:
    """A head model by name ("head", "flame", "ict", "arkit", "smplx") or from a file or folder.

    Args:
        model: Name or path: a FLAME file (.pkl, .npz), an SMPL-X file (whose name begins with SMPLX), a FaceXModel
            folder, a folder or .zip of ARKit's reference blendshapes, a head asset (.safetensors).
        landmarks: Whether to attach the landmark embeddings (and regions of the skin) that are packaged for the
            model's mesh. A mesh that is not known stays without; `models.embedding.compute_embedding` makes them.

    Raises:
        AssetError: no such model, or its file is not there; the text says where to get it.
        FileError, FormatError: the file is not what it should be.
    """
    loaded = _load(model)
    if loaded.name == "head":
        return with_landmarks(loaded, packaged(_HEAD_LANDMARKS)) if landmarks else loaded
    return with_tables(loaded) if landmarks else loaded


def _load(model: str | Path) -> LinearModel:
    if str(model) in _LOADERS:
        return _LOADERS[str(model)]()
    path = Path(model)
    if path.is_dir():
        if (path / ict.NEUTRAL).is_file() or (path / "FaceXModel" / ict.NEUTRAL).is_file():
            return ict.load_ict(path)
        if arkit_face.is_arkit_face(path):
            return arkit_face.load_arkit_face(path)
        inside = [path / Path(f).name for f in flame.FILES if (path / Path(f).name).is_file()]
        if inside:
            return flame.load_flame(inside[0])
    elif path.suffix == ".zip" and path.is_file():
        return arkit_face.load_arkit_face(path)
    elif path.suffix in (".pkl", ".npz") and path.name.upper().startswith("SMPLX") and path.is_file():
        return smplx_face.load_smplx_face(path)
    elif path.suffix in (".pkl", ".npz") and path.is_file():
        return flame.load_flame(path)
    elif path.suffix == ".safetensors" and path.is_file():
        return read_head(path)
    raise AssetError(
        f"No model {str(model)!r}: expected one of {', '.join(NAMES)}, a FLAME file (.pkl, .npz), "
        "ICT-FaceKit's FaceXModel folder or ARKit's blendshapes. `head` is packaged and needs no file.\n"
        f"{flame.WHERE} {ict.WHERE}"
    )
