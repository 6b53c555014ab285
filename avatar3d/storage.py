"""Any of the types <-> one safetensors file: tensors by dotted field path, everything else as JSON in the header.

Nothing is ever unpickled. Files are written beside their destination and renamed, so that a killed process leaves
the old file or none.
"""

import contextlib
import dataclasses
import glob
import json
import os
import re
import shutil
import struct
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from avatar3d.errors import FileError, FormatError, UsageError
from avatar3d.types import Avatar, Motion, Track

FORMAT_VERSION = 1
KINDS: dict[str, type] = {"avatar": Avatar, "motion": Motion, "track": Track}
_T = TypeVar("_T")


def beside(path: Path) -> Path:
    """A hidden place beside `path` for what is not finished, and none else's; what a killed process left there goes."""
    with contextlib.suppress(OSError):
        for left in path.parent.glob(f".*-{glob.escape(path.name)}"):
            number = left.name[1 : -len(path.name) - 1]
            if number.isdigit() and not _runs(int(number)):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    return path.with_name(f".{os.getpid()}-{path.name}")


def _runs(process: int) -> bool:
    """Whether there is such a process; on Windows, where asking would stop it, always."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a hidden temporary path beside `path`; renames it on success, deletes it on any failure.

    Raises:
        FileError: the folder cannot be written, or the disk is full.
    """
    temporary = beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _share(temporary)
        os.replace(temporary, path)
    except (OSError, safetensors.SafetensorError) as error:
        said = re.search(r"I/O error: (.*?) \(os error", str(error))  # safetensors wraps the system's errors
        reason = said[1] if said else getattr(error, "strerror", None) or error
        raise FileError(f"Cannot write {path}: {reason}. Check the folder and free space.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_writable(path: Path | str | None, *inputs: Path | str | None) -> None:
    """Fails before long work whose result could not be written there, or would replace what it is made from.

    Args:
        path: The output; None for none.
        inputs: Files, or anything else, that it may not be.

    Raises:
        FileError: a folder of that name, or a folder that cannot be made or written.
        UsageError: the file is one of the inputs.
    """
    if path is None:
        return
    path = Path(path)
    if any(_is_same_file(path, item) for item in inputs if item is not None):
        raise UsageError(f"{path} is an input, and would be replaced by the output. Name another file.")
    if path.is_dir():
        raise FileError(f"Cannot write {path}: it is a folder. Name a file in it.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise FileError(f"Cannot write {path}: {folder} is a file, not a folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"Cannot write {path}: {folder} may not be written. Choose another folder with -o.")


def _is_same_file(path: Path, other: Path | str) -> bool:
    try:
        return path.is_file() and os.path.samefile(path, other)
    except (OSError, ValueError):  # no path at all, such as "text:..."
        return False


def _share(path: Path) -> None:
    """Gives a file the permissions that the user's umask gives new files; some writers make theirs private."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def save(path: str | Path, value: Avatar | Motion | Track) -> None:
    """Writes an avatar, motion or track.

    Raises:
        FileError: the file cannot be written.
    """
    path = Path(path)
    kind = next(name for name, cls in KINDS.items() if isinstance(value, cls))
    tensors: dict[str, Tensor] = {}
    header = {"format": "avatar3d", "version": FORMAT_VERSION, "kind": kind, "value": _flatten(value, "", tensors)}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"avatar3d": json.dumps(header)})


def load(path: str | Path, kind: type[_T] | None = None) -> _T:
    """Reads what `save` wrote.

    Args:
        path: The file.
        kind: `Avatar`, `Motion` or `Track`, where it must be one; any when left out.

    Raises:
        FileError: there is no such file.
        FormatError: not one of our files, of another kind or a newer version, or damaged.
    """
    path = Path(path)
    header = read_header(path)
    kind = kind or KINDS.get(header["kind"])  # type: ignore[assignment]
    if KINDS.get(header["kind"]) is not kind or kind is None:
        wanted = next((name for name, cls in KINDS.items() if cls is kind), "known kind")
        raise FormatError(f"{path} holds: {header['kind']}, and {wanted} was expected.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        value: Any = _unflatten(kind, header["value"], "", tensors)
        if kind is Avatar and value.gaussians is not None:
            value.gaussians.check(len(value.rig.faces) + len(value.rig.joint_names), len(value.rig.shape_names))
        motion = value.motion if kind is Avatar else value
        if isinstance(motion, Motion):
            motion.check()
        return value
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is damaged: {str(error).rstrip('.')}. Make it again.") from error


def read_header(path: str | Path) -> dict:
    """The JSON header of one of our files, without reading its tensors.

    Raises:
        FileError: there is no such file.
        FormatError: not one of our files.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path} does not exist." if not path.exists() else f"{path} is a folder, not a file.")
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 100_000_000 or length > path.stat().st_size:
                raise ValueError("no safetensors header")
            header = json.loads(json.loads(file.read(length))["__metadata__"]["avatar3d"])
    except (struct.error, KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{path} is not an avatar3d file (.avatar, .motion or .track), or is damaged.") from error
    if header.get("version", 0) > FORMAT_VERSION:
        raise FormatError(f"{path} has format version {header['version']}; this avatar3d reads up to {FORMAT_VERSION}.")
    return header


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous()
        return {"$tensor": path}
    if dataclasses.is_dataclass(value):
        fields = {f.name: _flatten(getattr(value, f.name), f"{path}.{f.name}".lstrip("."), tensors)
                  for f in dataclasses.fields(value)}  # fmt: skip
        return {"$type": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {k: _flatten(v, f"{path}.{k}", tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_flatten(v, f"{path}.{i}", tensors) for i, v in enumerate(value)]
    return value


def _unflatten(hint: Any, value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict) and "$tensor" in value:
        return tensors[value["$tensor"]]
    if isinstance(value, dict) and "$type" in value:
        cls = _class_named(hint, value["$type"])
        hints = typing.get_type_hints(cls)
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: _unflatten(hints[k], v, k, tensors) for k, v in value.items() if k in names})
    arguments = typing.get_args(hint)
    if isinstance(value, dict):
        inner = arguments[1] if len(arguments) == 2 else Any
        return {k: _unflatten(inner, v, k, tensors) for k, v in value.items()}
    if isinstance(value, list):
        inner = arguments[0] if arguments else Any
        items = [_unflatten(inner, v, path, tensors) for v in value]
        return tuple(items) if typing.get_origin(hint) is tuple else items
    return value


def _class_named(hint: Any, name: str) -> type:
    """The dataclass of that name that a field's annotation admits; nothing else is ever constructed."""
    for candidate in (hint, *typing.get_args(hint)):
        if dataclasses.is_dataclass(candidate) and getattr(candidate, "__name__", "") == name:
            return candidate  # type: ignore[return-value]
    raise ValueError(f"a {name} where {hint} was expected")


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in a value of one of the types."""
    tensors: dict[str, Tensor] = {}
    _flatten(value, "", tensors)
    return sum(t.numel() * t.element_size() for t in tensors.values() if isinstance(t, torch.Tensor))
