"""OBJ files."""

import numpy as np
import pytest

from avatar3d.errors import FileError, FormatError
from avatar3d.models.obj import read_obj, read_positions, triangulate

TEXT = """# two polygons
v 0 0 0
v 1 0 0
v 1 1e0 0
vt 0 0
vt 1 0.5
v 0 1 -0.5
vn 0 0 1
f 1/1/1 2/2/1 3/1/1 4/2/1
f 1/1 3/1 4/2
"""


def test_quads_and_triangles(tmp_path):
    path = tmp_path / "m.obj"
    path.write_text(TEXT)
    mesh = read_obj(path)
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, -0.5]])
    corners, quad = triangulate(mesh.quads)
    np.testing.assert_array_equal(mesh.quads.ravel()[corners], [[0, 1, 2], [0, 2, 3], [0, 2, 3]])
    np.testing.assert_array_equal(mesh.uv_quads.ravel()[corners], [[0, 1, 0], [0, 0, 1], [0, 0, 1]])
    assert quad.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "line, text", [("v 0 x 1", "no three numbers"), ("f 1 2 3 4 1", "5 corners"), ("f 1 2 9", "not there")]
)
def test_broken_files(tmp_path, line, text):
    path = tmp_path / "m.obj"
    path.write_text(TEXT + line + "\n")
    with pytest.raises(FormatError, match=text):
        read_obj(path)


def test_no_file_and_no_vertices(tmp_path):
    with pytest.raises(FileError, match="cannot be read"):
        read_positions(tmp_path / "none.obj")
    (tmp_path / "m.obj").write_text("hello\n")
    with pytest.raises(FormatError, match="no vertices"):
        read_positions(tmp_path / "m.obj")
