"""Teeth: two dental arches of fourteen teeth with a gum band, hung on MakeHuman's helper strips.

Upstream has 17 columns of 4 vertices a row (plain strips). Each of our vertices is a fixed linear combination of the
strip's vertices (smooth in the column), plus an offset in the strip's own frame that scales with the strip's length:
so the arches take their identity and their place from upstream, and their look from here.
"""

import numpy as np

COLUMNS_PER_TOOTH = 3
# mesio-distal widths, midline to back, mm (means of human teeth; Wheeler's Dental Anatomy, tables of crown sizes)
WIDTHS = {
    "upper": [8.5, 6.5, 7.5, 7.0, 7.0, 10.0, 9.0],
    "lower": [5.0, 5.5, 7.0, 7.0, 7.0, 11.0, 10.5],
}
CROWNS = {  # visible crown height, mm
    "upper": [10.5, 9.0, 10.0, 8.5, 8.0, 7.0, 6.5],
    "lower": [8.8, 9.2, 10.5, 8.5, 8.0, 7.2, 6.8],
}
THICKNESS = [2.2, 2.2, 3.4, 6.0, 7.0, 9.0, 9.0]  # at the biting edge, mm
TEETH = 14
COLUMNS = TEETH * COLUMNS_PER_TOOTH + 1
PROFILE = 6  # gum top, gum line, belly, outer edge, inner edge, inner gum
ROW_VERTICES = COLUMNS * PROFILE


def row_quads(flip: bool) -> np.ndarray:
    """Quads of one arch; columns run from the subject's right to left, profile from the outer gum to the inner."""
    c, p = np.meshgrid(np.arange(COLUMNS - 1), np.arange(PROFILE - 1), indexing="ij")
    a = (c * PROFILE + p).ravel()
    quads = np.stack([a, a + 1, a + PROFILE + 1, a + PROFILE], 1)
    return quads[:, ::-1] if flip else quads


def row_mirror() -> np.ndarray:
    """Vertex map left <-> right within one arch."""
    index = np.arange(ROW_VERTICES).reshape(COLUMNS, PROFILE)
    return index[::-1].ravel()


def split(quads: np.ndarray) -> np.ndarray:
    """Triangles, the diagonal mirrored about the midline column."""
    out = []
    for a, b, c, d in quads:
        left = min(a, b, c, d) // PROFILE >= COLUMNS // 2
        out += [[a, b, c], [a, c, d]] if left else [[a, b, d], [b, c, d]]
    return np.array(out)
