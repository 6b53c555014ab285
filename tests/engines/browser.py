"""Headless Chromium that draws in software, and a server that hands it files and takes what its scripts send back."""

import contextlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FLAGS = ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-extensions", "--mute-audio",
         "--disable-background-networking", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--force-device-scale-factor=1", "--autoplay-policy=no-user-gesture-required"]  # fmt: skip
SOFTWARE = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-sandbox"]
KINDS = {".html": "text/html", ".js": "text/javascript", ".glb": "model/gltf-binary"}
Files = Callable[[str], bytes | None]
"""A path, without its query -> what lies there, or None."""


class Missing(Exception):
    """A tool that is not installed here; the text says how to get it."""


def chromium() -> str:
    """Chromium's or Chrome's program.

    Raises:
        Missing: there is none.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if browser is None:
        raise Missing("Chromium is not installed: tests/engines/install.sh")
    return browser


@contextlib.contextmanager
def opened(url: str, *, size: tuple[int, int] = (740, 840), flags: list[str] = SOFTWARE) -> Iterator[None]:
    """A browser that shows a page for as long as the block lasts."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        window = f"--window-size={size[0]},{size[1]}"
        command = [chromium(), *FLAGS, *flags, window, f"--user-data-dir={profile}", url]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.terminate()


def screenshot(url: str, out: Path, size: tuple[int, int]) -> None:
    """The browser's own screenshot of a page, the moment that it counts as loaded."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        window = f"--window-size={size[0]},{size[1]}"
        command = [chromium(), *FLAGS, *SOFTWARE, window, f"--user-data-dir={profile}", f"--screenshot={out}"]
        subprocess.run([*command, url], check=True, capture_output=True, timeout=120)


def converse(
    files: Files,
    *,
    query: str = "",
    size: tuple[int, int] = (740, 840),
    flags: list[str] = SOFTWARE,
    timeout: float = 120,
) -> tuple[dict[str, bytes], list[str]]:
    """Opens `/` of a server of these files, and waits until a script posts to `/send/done`.

    Args:
        files: What is served.
        query: Of the address.
        size: Of the window, pixels.
        flags: Of the browser, for graphics.
        timeout: Seconds.

    Returns:
        What scripts posted to `/send/NAME`, by name; and the paths that were asked for.

    Raises:
        RuntimeError: a script posted to `/send/error`, or nothing in time.
    """
    received: dict[str, bytes] = {}
    asked: list[str] = []
    finished = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            asked.append(path)
            content = files(path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Type", KINDS.get(Path(path).suffix or ".html", "application/octet-stream"))
            self.end_headers()
            self.wfile.write(content or b"")

        def do_POST(self) -> None:
            name = self.path.rsplit("/", 1)[1]
            received[name] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            if name in ("done", "error"):
                finished.set()

        def log_message(self, *arguments) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with opened(f"http://127.0.0.1:{server.server_port}/{query and '?'}{query}", size=size, flags=flags):
            in_time = finished.wait(timeout)
    finally:
        server.shutdown()
        server.server_close()
    if "error" in received or not in_time:
        raise RuntimeError(f"page: {received.get('error', b'no answer in time').decode()}")
    return received, asked
