"""The import rule of the design: a module imports strictly lower layers, or its own package."""

import ast
from pathlib import Path

import avatar3d

ROOT = Path(avatar3d.__file__).parent
LAYERS = [
    {"errors"},
    {"typing", "data", "lazy"},
    {"types"},
    {"storage", "geometry", "sound"},
    {"ops"},
    {"models", "nets", "render"},
    {"capture", "track", "appearance", "drive", "stabilize", "export", "evaluate", "view", "scale"},
    {"pipeline"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported_units(path: Path) -> set[str]:
    units = set()
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules = [node.module]
            if node.module == "avatar3d":
                modules = [f"avatar3d.{alias.name}" for alias in node.names if alias.name != "__version__"]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
        units |= {m.split(".")[1] for m in modules if m.startswith("avatar3d.")}
    return units


def test_every_module_has_a_layer_and_imports_only_below_it():
    wrong = []
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        unit = parts[0]
        if unit == "__init__":
            continue  # the public surface may name anything
        assert unit in LEVEL, f"{path} belongs to no layer of DESIGN.md"
        for other in imported_units(path):
            if other == "_C" and unit == "ops":
                continue
            if other != unit and LEVEL.get(other, 99) >= LEVEL[unit]:
                wrong.append(f"{'.'.join(parts)} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_a_violation_would_be_seen(tmp_path):
    (tmp_path / "bad.py").write_text("from avatar3d import cli\nimport avatar3d.pipeline\n")
    assert imported_units(tmp_path / "bad.py") == {"cli", "pipeline"}
