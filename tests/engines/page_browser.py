"""An exported page in headless Chromium, drawn in software: what scripts find in it, and its pictures.

    python tests/engines/page_browser.py me.html [--size 512] [--seconds 5] [--picture out.png]

says how many pictures a second it draws here.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from engine_checks import Missing

FLAGS = ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-extensions", "--mute-audio",
         "--disable-background-networking", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--force-device-scale-factor=1", "--autoplay-policy=no-user-gesture-required"]  # fmt: skip
SOFTWARE = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-sandbox"]
HARNESS = """<!doctype html><meta charset="utf-8"><style>html, body { margin: 0 } iframe { border: 0 }</style>
<iframe id="frame" width="%d" height="%d" src="/page.html?%s"></iframe>
<script>
  const send = (name, body) => fetch("/send/" + name, { method: "POST", body });
  const fail = (error) => send("error", String((error && error.stack) || error));
  onunhandledrejection = (event) => fail(event.reason);
  const frame = document.getElementById("frame");
  frame.onload = async () => {
    const a = frame.contentWindow.avatar3d, page = frame.contentDocument;
    try {
      const found = await (async () => { %s })();
      await send("done", JSON.stringify(found === undefined ? null : found));
    } catch (error) { fail(error); }
  };
</script>"""


def chromium() -> str:
    """Chromium's or Chrome's program.

    Raises:
        Missing: there is none.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if browser is None:
        raise Missing("Chromium is not installed: tests/engines/install.sh")
    return browser


def run_page(
    html: Path,
    script: str,
    *,
    query: str = "",
    size: tuple[int, int] = (720, 720),
    flags: list[str] = SOFTWARE,
    timeout: float = 120,
) -> tuple[object, dict[str, bytes], list[str]]:
    """Opens a page and runs a script beside it.

    Args:
        html: The page.
        script: Body of an async function: `a` is the page's `avatar3d`, `page` its document, `send(name, body)`
            hands something over; what it returns comes back.
        query: Of the page's address.
        size: Of the window in which it lies, pixels.
        flags: Of the browser, for graphics.
        timeout: Seconds.

    Returns:
        What the script returned, what it sent, and the paths that were asked of the server.
    """
    received: dict[str, bytes] = {}
    asked: list[str] = []
    finished = threading.Event()
    harness = HARNESS % (*size, query, script)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            asked.append(path)
            content = {"/": harness.encode(), "/page.html": html.read_bytes()}.get(path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Type", "text/html")
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
    window = f"--window-size={size[0] + 20},{size[1] + 120}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [chromium(), *FLAGS, *flags, window, f"--user-data-dir={profile}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([*command, f"http://127.0.0.1:{server.server_port}/"], **quiet) as process:
            try:
                in_time = finished.wait(timeout)
            finally:
                process.terminate()
                server.shutdown()
                server.server_close()
    if "error" in received or not in_time:
        raise RuntimeError(f"page: {received.get('error', b'no answer in time').decode()}")
    return json.loads(received.pop("done")), received, asked


def screenshot(html: Path, out: Path, query: str, size: tuple[int, int] = (720, 720)) -> None:
    """The browser's own screenshot of the page as a file, the moment that it counts as loaded."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        window = f"--window-size={size[0]},{size[1]}"
        command = [chromium(), *FLAGS, *SOFTWARE, window, f"--user-data-dir={profile}", f"--screenshot={out}"]
        url = f"{html.resolve().as_uri()}?{query}"
        subprocess.run([*command, url], check=True, capture_output=True, timeout=120)


def main() -> None:
    """Measures from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("html", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    script = f"""await a.ready; const fps = await a.fps({arguments.seconds});
        a.setFrame(0); await send("picture", await a.image()); return [fps, a.info];"""
    query = "camera=front&frame=0&ui=0"
    (fps, info), sent, _ = run_page(arguments.html, script, query=query, size=(arguments.size, arguments.size))
    print(f"{arguments.html.name}: {fps:.1f} pictures a second, {info}")
    if arguments.picture:
        arguments.picture.write_bytes(sent["picture"])


if __name__ == "__main__":
    main()
