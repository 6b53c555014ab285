"""`avatar3d COMMAND ...`: finds the command, runs it, and turns failures into one clear line and an exit status."""

import contextlib
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence

from avatar3d.errors import AvatarError, UsageError

COMMANDS = {
    "fit": "footage of a person -> .avatar",
    "drive": "video, sound, text, ARKit recording, meshes -> .motion",
    "live": "motion, sound, text or microphone -> Unreal, Unity (Live Link Face over UDP)",
    "render": "avatar (and motion) -> MP4 or PNG",
    "export": "avatar (and motion) -> GLB, HTML, OBJ, PLY, SPZ, Live Link CSV",
    "stabilize": "meshes of one person -> the same without head motion, and the motion",
    "view": "avatar in the browser: sliders, motion, any camera",
    "evaluate": "avatar against a clip: PSNR, SSIM, landmarks, expression, pose",
    "evaluate-motion": "motion made from speech against tracked motion of the same speech",
    "info": "what a file holds",
    "doctor": "what of avatar3d works on this machine, and what to do about the rest",
    "bench": "speed against peers and rooflines",
    "demo": "the whole path on the packaged clip",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command line.

    Returns:
        0 when the output exists and was read back, 2 for bad arguments, 1 for a failure, 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        from avatar3d import __version__

        print(f"avatar3d {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        print(f"avatar3d: no command {argv[0]!r}; there are {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    if "" in argv:  # a path of nothing would be the current folder
        return _fail(f"{argv[0]}: an argument is empty. See `avatar3d {argv[0]} --help`.", 2)
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # up to twice that is read
    try:
        return _run(argv[0], argv[1:])
    except UsageError as error:
        return _fail(str(error), 2)
    except AvatarError as error:
        return _fail(str(error), 1)
    except (ValueError, IndexError) as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C; nothing half-written was left. The same command goes on from there.", 130)
    except BrokenPipeError:
        return 1
    except MemoryError:
        return _fail("out of memory. Try --quality draft, or a shorter or smaller clip.", 1)
    except OSError as error:
        return _fail(
            f"{error.filename or 'file system'}: {error.strerror or error}. Check the folder and free space.", 1
        )
    except Exception as error:
        if os.environ.get("AVATAR3D_TRACEBACK"):
            raise
        text = str(error).strip().splitlines()
        line = f"{type(error).__name__}: {text[0] if text else 'no message'}"
        return _fail(f"a fault of avatar3d itself: {line}\nSet AVATAR3D_TRACEBACK=1 and report what it prints.", 1)


def _run(command: str, argv: list[str]) -> int:
    import tyro

    module = importlib.import_module(f"avatar3d.cli.{command.replace('-', '_')}")
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            arguments = tyro.cli(module.Arguments, args=argv, prog=f"avatar3d {command}", description=module.__doc__)
    except SystemExit as stop:
        if stop.code:
            return _fail(f"{command}: {_in_a_line(told.getvalue())} See `avatar3d {command} --help`.", 2)
        return 0
    return int(module.run(arguments) or 0)


def _in_a_line(text: str) -> str:
    """A parser's message without the box that it is drawn in, its heading, and its own advice."""
    lines = [line.strip(" \t│|") for line in text.splitlines()]
    lines = [line for line in lines if line and not set(line) <= set("─-╭╮╰╯╌━=")]
    lines = [line for line in lines if not re.match(r"[╭╰]|usage:|For full helptext|Invalid |Parsing error", line)]
    said = re.sub(r"\s+", " ", " ".join(lines))
    said = re.sub(r"^.*?Missing from avatar3d [\w-]+: ", "missing: ", said)
    said = re.sub(r"( \(required\))? avatar3d [\w-]+ --help$", "", said)
    said = re.sub(r"no type matching (\S+) could be instantiated from \['(.*?)'\].*$", r"\2 is no \1", said)
    return said if said.endswith(".") else f"{said}."


def _fail(text: str, status: int) -> int:
    lines = [line for line in text.splitlines() if line.strip()][:3]
    print("avatar3d: " + "\n".join(lines), file=sys.stderr)
    return status


def _usage() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return f"usage: avatar3d COMMAND ...\n\n{commands}\n\n`avatar3d COMMAND --help` tells the rest."


if __name__ == "__main__":
    sys.exit(main())
