"""An exported page in headless Chromium, drawn in software: what scripts find in it, and its pictures.

    python tests/engines/page_browser.py me.html [--size 512] [--seconds 5] [--picture out.png]

says how many pictures a second it draws here.
"""

import argparse
import json
from pathlib import Path

import browser

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


def run_page(
    html: Path,
    script: str,
    *,
    query: str = "",
    size: tuple[int, int] = (720, 720),
    flags: list[str] = browser.SOFTWARE,
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
    served = {"/": (HARNESS % (*size, query, script)).encode(), "/page.html": html.read_bytes()}
    window = (size[0] + 20, size[1] + 120)
    received, asked = browser.converse(served.get, size=window, flags=flags, timeout=timeout)
    return json.loads(received.pop("done")), received, asked


def screenshot(html: Path, out: Path, query: str, size: tuple[int, int] = (720, 720)) -> None:
    """The browser's own screenshot of the page as a file, the moment that it counts as loaded."""
    browser.screenshot(f"{html.resolve().as_uri()}?{query}", out, size)


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
