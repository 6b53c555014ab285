"""Shows an avatar in the browser: sliders, motion, any camera, screenshots. Needs the extra `view`."""

import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatar3d import pipeline
from avatar3d.cli.common import say
from avatar3d.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Avatar to a page that this command serves until Ctrl-C."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """The .avatar file."""
    motion: str | None = None
    """A .motion file (default: the motion that the avatar's footage showed), or `none`."""
    host: str = "127.0.0.1"
    """Interface that is listened on; 0.0.0.0 lets other machines in."""
    port: int = 8080
    """Where this is taken, the next free one."""
    open: bool = True
    """Open the page in a browser."""


def run(arguments: Arguments) -> int:
    """Serves until Ctrl-C."""
    if not 0 < arguments.port < 65536:
        raise UsageError(f"view: --port {arguments.port}; expected 1 to 65535.")
    view = pipeline.view(pipeline.load_avatar(arguments.avatar), motion=arguments.motion, host=arguments.host,
                         port=arguments.port)  # fmt: skip
    say(f"{arguments.avatar} is on show at {view.url}; Ctrl-C ends it.")
    if arguments.open:
        webbrowser.open(view.url)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        view.stop()
    return 0
