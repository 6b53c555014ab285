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
    "upper": [11.2, 10.2, 11.0, 9.5, 8.8, 7.6, 7.0],
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


def borders() -> np.ndarray:
    """`[ROW_VERTICES]` which vertices of one arch lie between two teeth, below the gum line."""
    index = np.arange(ROW_VERTICES)
    return ((index // PROFILE - COLUMNS // 2) % COLUMNS_PER_TOOTH == 0) & (index % PROFILE >= 2)


def split(quads: np.ndarray) -> np.ndarray:
    """Triangles, the diagonal mirrored about the midline column."""
    out = []
    for a, b, c, d in quads:
        left = min(a, b, c, d) // PROFILE >= COLUMNS // 2
        out += [[a, b, c], [a, c, d]] if left else [[a, b, d], [b, c, d]]
    return np.array(out)


def _columns(points: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Helper strip as `[17, 4]` vertex numbers, columns from -x to +x, rows gum, middle, biting edge, inner."""
    neighbours: dict[int, list[np.ndarray]] = {}
    for quad in quads:
        for v in quad:
            neighbours.setdefault(int(v), []).append(quad)
    middle = [v for v in neighbours if abs(points[v, 0]) < 1e-6]
    linked = {v: {w for q in neighbours[v] for w in q.tolist() if w in middle and w != v} for v in middle}
    inner = min(middle, key=lambda v: points[v, 2])
    # a quad has two vertices on the midline, so links within it are the strip's own edges
    chain = [inner]
    while len(chain) < 4:
        chain.append(next(w for w in linked[chain[-1]] if w not in chain))
    column, table = chain[::-1], [chain[::-1]]
    for _ in range(8):
        step = []
        for i in range(4):
            mate = column[i + 1] if i < 3 else column[i - 1]
            for quad in neighbours[column[i]]:
                q = quad.tolist()
                if mate not in q:
                    continue
                at = q.index(column[i])
                beside = next(w for w in (q[at - 1], q[(at + 1) % 4]) if w != mate)
                if (
                    points[beside, 0] > points[column[i], 0] - 1e-3
                    and beside not in table[-1]
                    and (len(table) < 2 or beside not in table[-2])
                    and points[beside, 0] > 1e-4
                ):
                    step.append(beside)
                    break
        column = step
        table.append(step)
    half = np.array(table)
    other = {tuple(np.round(p * [-1, 1, 1], 6)): i for i, p in enumerate(points)}
    mirrored = np.array([[other[tuple(np.round(points[v], 6))] for v in row] for row in half[1:]])
    return np.concatenate([mirrored[::-1], half])


def _spline_weights(at: np.ndarray, count: int) -> np.ndarray:
    """Uniform cubic B-spline weights `[n, count]` at column positions, ends clamped by repetition."""
    weights = np.zeros((len(at), count))
    i = np.clip(np.floor(at).astype(int), 0, count - 2)
    u = at - i
    basis = np.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], 1) / 6
    for k in range(4):
        np.add.at(weights, (np.arange(len(at)), np.clip(i - 1 + k, 0, count - 1)), basis[:, k])
    return weights


def hang(points: np.ndarray, quads: np.ndarray, row: str) -> tuple[np.ndarray, np.ndarray]:
    """Places one arch on its helper strip.

    Args:
        points: The strip's 68 vertices in the base head, metres `[68, 3]`.
        quads: The strip's quads, numbers into `points`.
        row: "upper" or "lower".

    Returns:
        Weights `[ROW_VERTICES, 68]` and offsets `[ROW_VERTICES, 3]` in metres: vertices = weights @ strip + offsets.
    """
    table = _columns(points, quads)
    fine = np.linspace(0, len(table) - 1, 1601)
    edge = _spline_weights(fine, len(table)) @ points[table[:, 2]]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(edge, axis=0), axis=1))])
    length -= length[800]

    widths = np.array(WIDTHS[row]) * 1.04e-3
    border = np.concatenate([[0], np.cumsum(widths)])
    s, groove = [], []
    for i in range(TEETH // 2):
        for u in (0.0, 0.22, 0.78):
            s.append(border[i] + u * widths[i])
            groove.append(u == 0.0)
    s, groove = np.array([*s, border[-1]]), np.array([*groove, True])
    s, groove = np.concatenate([-s[:0:-1], s]), np.concatenate([groove[:0:-1], groove])
    w = _spline_weights(np.interp(s, length, fine), len(table))
    rows = np.zeros((4, COLUMNS, len(points)))
    for r in range(4):
        rows[r][:, table[:, r]] = w
    mid, bite = rows[1] @ points, rows[2] @ points
    tangent = np.gradient(bite, s, axis=0) * [1, 0, 1]
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    out = np.stack([-tangent[:, 2], 0 * s, tangent[:, 0]], 1)
    up = mid - bite
    up -= (up * tangent).sum(1, keepdims=True) * tangent
    up /= np.linalg.norm(up, axis=1, keepdims=True)

    mm = 1e-3
    centre = 0.5 * (border[1:] + border[:-1])
    crown = (np.interp(np.abs(s), centre, CROWNS[row]) * mm)[:, None]
    thick = (np.interp(np.abs(s), centre, THICKNESS) * mm)[:, None]
    g = groove[:, None].astype(float)
    first = (np.abs(s) < 1e-9)[:, None]
    g_edge = np.where(first, 0.5 * g, g)  # the central incisors close with less of a notch
    outer_edge = bite + up * (0.8 * mm * g_edge) - out * (0.55 * mm * g)
    inner_edge = bite - out * thick + up * (0.4 * mm + 0.6 * mm * g_edge)
    belly = bite + up * (0.5 * crown) + out * (0.75 * mm - 1.3 * mm * g)
    gum_line = bite + up * (crown - 1.3 * mm * g) + out * (0.1 * mm + 0.1 * mm * g)
    gum_top = gum_line + up * (6.0 * mm + 1.3 * mm * g) + out * (0.3 * mm)
    inner_gum = bite + up * (0.9 * crown) - out * (thick + 2.5 * mm)
    # lower than the helper strip, so that the upper teeth show below the lip, and the upper row bites in front
    place = {"upper": (0.0, -2.6 * mm, 2.2 * mm), "lower": (0.0, -1.3 * mm, 0.0)}[row]
    wanted = np.stack([gum_top, gum_line, belly, outer_edge, inner_edge, inner_gum], 1) * [0.97, 1, 1] + place
    weights = np.stack([rows[0], rows[1], 0.5 * (rows[1] + rows[2]), rows[2], rows[2], rows[3]], 1)
    weights = weights.reshape(ROW_VERTICES, -1)
    return weights, wanted.reshape(ROW_VERTICES, 3) - weights @ points


def strip_size(points: np.ndarray) -> np.ndarray:
    """Root-mean-square distance from the mean of strips `[n, 68, 3]`, by which offsets scale."""
    return np.sqrt(((points - points.mean(1, keepdims=True)) ** 2).sum(-1).mean(1))
