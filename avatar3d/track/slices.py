"""Detections on disk, in slices: what a run that was killed goes on from."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors
from safetensors.torch import save_file

from avatar3d.storage import replacing
from avatar3d.track.look import Slice

SECONDS = 5.0
"""Of work between slices."""


@dataclass(frozen=True)
class Slices:
    """A folder of slices. Those that were written for other footage or other settings are thrown away."""

    folder: Path
    key: str
    """Changes with everything that detections depend on."""
    seconds: float = SECONDS

    def of_view(self, number: int, say: Callable[[int], None] | None = None) -> "ViewSlices":
        """The slices of one view; `say` hears of the frames that need not be looked at again."""
        return ViewSlices(self, number, say)

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class ViewSlices:
    """`look.Keeper` of one view."""

    def __init__(self, slices: Slices, number: int, say: Callable[[int], None] | None) -> None:
        self._slices, self._number, self._say = slices, number, say
        self._count, self._last = 0, time.monotonic()

    def _path(self, count: int) -> Path:
        return self._slices.folder / f"{self._number}-{count:05d}.safetensors"

    def kept(self) -> list[Slice]:
        """All slices from the first, as far as they are whole."""
        out: list[Slice] = []
        while (part := self._read(self._path(len(out)))) is not None:
            out.append(part)
        self._count, self._last = len(out), time.monotonic()
        if out and self._say is not None:
            self._say(sum(len(part.times) for part in out))
        return out

    def due(self) -> bool:
        """Whether it is time for a slice."""
        return time.monotonic() - self._last >= self._slices.seconds

    def keep(self, part: Slice) -> None:
        """Writes a slice.

        Raises:
            FileError: the folder cannot be written.
        """
        tensors = {name: value for name, value in vars(part).items() if name not in ("state", "complete")}
        tensors |= {f"state.{name}": value for name, value in part.state.items()}
        header = {"key": self._slices.key, "complete": json.dumps(part.complete)}
        with replacing(self._path(self._count)) as temporary:
            save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, metadata=header)
        self._count, self._last = self._count + 1, time.monotonic()

    def _read(self, path: Path) -> Slice | None:
        with contextlib.suppress(OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
            with safetensors.safe_open(path, framework="pt") as file:
                header = file.metadata()
                if header["key"] != self._slices.key:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            state = {name.removeprefix("state."): tensors.pop(name) for name in list(tensors) if "." in name}
            return Slice(state=state, complete=json.loads(header["complete"]), **tensors)
        return None
