"""The page's template, style and modules, put together to one file: no bundler, and nothing from anywhere else."""

import re
from pathlib import Path

from avatar3d.typing import typed

FOLDER = Path(__file__).with_name("page")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) )", re.MULTILINE)
_NAME = re.compile(r"^(?:async )?(?:function|class|const) (\w+)", re.MULTILINE)


@typed
def script() -> str:
    """All modules as one script, each after what it imports.

    Raises:
        ValueError: two modules define the same name, or one imports in a form that is not understood.
    """
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        for other in _IMPORT.findall(_read(name)):
            visit(other)
        order.append(name)

    visit("main.js")
    parts = [_EXPORT.sub("", _IMPORT.sub("", _read(name))).strip() for name in order]
    names = [name for part in parts for name in _NAME.findall(part)]
    twice = {name for name in names if names.count(name) > 1}
    if twice or any(re.search(r"^(import|export)\b", part, re.MULTILINE) for part in parts):
        raise ValueError(f"page modules cannot be joined: {sorted(twice) or 'an import or export of another form'}.")
    return '"use strict";\n(() => {\n' + "\n\n".join(parts) + "\n})();"


@typed
def assemble(data: str, *, title: str, generator: str) -> str:
    """The whole page.

    Args:
        data: `page_data.Block.text`.
        title: Shown on top; plain text.
        generator: Name and version of what wrote it.
    """
    parts = {"data": data, "script": script(), "style": _read("style.css").strip(), "title": _escape(title),
             "generator": _escape(generator)}  # fmt: skip
    return re.sub(r"@(\w+)@", lambda match: parts[match[1]], _read("template.html"))


@typed
def data_of(page: str) -> str:
    """The block inside a page.

    Raises:
        ValueError: there is none.
    """
    match = re.search(r'<script type="text/plain" id="avatar">([^<]*)</script>', page)
    if match is None:
        raise ValueError("no avatar in this page")
    return match[1]


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
