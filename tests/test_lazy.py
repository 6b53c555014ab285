"""`import avatar3d` and `--help` do not wait for torch, and packages do not hide the functions of their name."""

import subprocess
import sys
import typing

import pytest

import avatar3d
from avatar3d import stabilize
from avatar3d.cli.stabilize import Arguments


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_avatar3d_imports_neither_torch_nor_scipy():
    code = "import sys, avatar3d, avatar3d.pipeline; print([m for m in ('torch', 'scipy', 'av') if m in sys.modules])"
    assert run(code) == "[]"


def test_help_of_the_main_commands_does_not_import_torch():
    code = (
        "import sys; from avatar3d.cli.main import main\n"
        "assert main([]) == 2 and main(['--help']) == 0\n"
        "for name in ('fit', 'drive', 'render', 'export', 'stabilize', 'evaluate', 'demo'):\n"
        "    assert main([name, '--help']) == 0\n"
        "print('torch' in sys.modules)"
    )
    assert run(code).splitlines()[-1] == "False"


def test_exporting_and_drawing_load_neither_the_tracker_nor_what_other_formats_need():
    for name, unneeded in (("export.glb", ("av", "trimesh", "scipy")), ("export.film", ("trimesh", "scipy"))):
        code = (
            f"import sys; from avatar3d.pipeline import load_avatar, export; import avatar3d.{name}\n"
            f"unneeded = {(*unneeded, 'avatar3d.track.solve', 'avatar3d.appearance.reconstruct')}\n"
            "print([m for m in unneeded if m in sys.modules])"
        )
        assert run(code) == "[]", name


def test_a_package_does_not_hide_the_function_of_its_name():
    code = (
        "import avatar3d.track.config, avatar3d.export.glb, avatar3d.view.stage, avatar3d.render.mesh\n"
        "import avatar3d\n"
        "from avatar3d import track\n"
        "print([callable(f) for f in (track, avatar3d.track, avatar3d.export, avatar3d.view, avatar3d.render)])"
    )
    assert run(code) == str([True] * 5)


def test_unknown_names_are_attribute_errors_and_known_ones_are_listed():
    with pytest.raises(AttributeError, match="'avatar3d' has no attribute 'tack'"):
        _ = avatar3d.tack
    assert set(avatar3d.__all__) <= set(dir(avatar3d))


def test_help_of_stabilize_names_the_methods_that_there_are():
    assert typing.get_args(typing.get_type_hints(Arguments)["method"]) == stabilize.METHODS
