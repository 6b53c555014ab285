"""Everything that avatar3d raises on purpose, beside ValueError for wrong arguments.

UsageError is the ValueError of what was typed: a command ends with exit status 2 on it, and with 1 on all others.

AvatarError
├── FileError          a file or folder cannot be read or written
│   ├── CaptureError   footage: not a video, truncated, no frames
│   ├── FormatError    one of our files, or a model file, with the wrong content
│   └── ExportError    an export that did not survive being read back
├── AssetError         a model, network or packaged asset that is missing or damaged
├── BackendError       no compiled kernel where one was demanded
├── DependencyError    an optional package that is not installed
├── DetectionError     nobody to reconstruct: no face, face too small, face number out of range
└── TrackingError      the fit did not converge to anything usable
"""


class UsageError(ValueError):
    """An argument or option of a command that cannot be what was meant."""


class AvatarError(Exception):
    """Base of the errors that avatar3d raises; the text is fit to be shown to a person."""


class FileError(AvatarError):
    """A file or folder cannot be read or written."""


class CaptureError(FileError):
    """Footage that cannot be opened or decoded."""


class FormatError(FileError):
    """A file whose content is not what its kind requires."""


class ExportError(FileError):
    """An exported file that did not survive being read back."""


class AssetError(AvatarError):
    """A model, network or packaged asset that is missing or damaged."""


class BackendError(AvatarError):
    """No compiled kernel for the device, and the caller would take nothing else."""


class DependencyError(AvatarError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, what: str) -> None:
        super().__init__(
            f"{what} needs the package `{package}`, which is not installed. "
            f"Install it with `pip install 'avatar3d[{extra}]'`."
        )


class DetectionError(AvatarError):
    """Nobody to reconstruct in the footage."""


class TrackingError(AvatarError):
    """The fit did not converge to anything usable."""
