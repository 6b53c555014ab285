"""Eyeballs: our own spheres in place of the upstream ones (whose right one lacks its back), and gaze.

A ball has a pole in front (pupil), rings at fixed angles from it, one of them on the limbus (iris border), and a pole
behind. Centre and radius come from the upstream eye vertices, so they follow the identity.
"""

import numpy as np

SEGMENTS = 16
RINGS_DEG = np.array([7.5, 15.5, 23.0, 32.0, 44.0, 58.0, 74.0, 92.0, 114.0, 144.0])
PUPIL_RINGS, IRIS_RINGS, CORNEA_RINGS = 1, 3, 4  # rings up to and with each border
BALL_VERTICES = 2 + SEGMENTS * len(RINGS_DEG)
GAZE_DEG = {"Up": 25.0, "Down": 30.0, "In": 30.0, "Out": 30.0}


def ball_angles() -> np.ndarray:
    """Polar angle from the front pole of every ball vertex, radians `[BALL_VERTICES]`."""
    return np.radians(np.concatenate([[0.0], np.repeat(RINGS_DEG, SEGMENTS), [180.0]]))


def ball_azimuths() -> np.ndarray:
    """Azimuth about +z of every ball vertex, radians, 0 at +x."""
    ring = np.arange(SEGMENTS) * (2 * np.pi / SEGMENTS)
    return np.concatenate([[0.0], np.tile(ring, len(RINGS_DEG)), [0.0]])


def unit_ball() -> np.ndarray:
    """Left ball on the unit sphere `[BALL_VERTICES, 3]`, front pole at +z."""
    theta, phi = ball_angles(), ball_azimuths()
    return np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], 1)


def ball_faces() -> np.ndarray:
    """Triangles of the left ball, outward."""
    faces, rings, s = [], len(RINGS_DEG), SEGMENTS
    ring = lambda r, i: 1 + r * s + i % s  # noqa: E731
    for i in range(s):
        faces.append([0, ring(0, i), ring(0, i + 1)])
        for r in range(rings - 1):
            a, b, c, d = ring(r, i), ring(r + 1, i), ring(r + 1, i + 1), ring(r, i + 1)
            faces += [[a, b, c], [a, c, d]]
        faces.append([ring(rings - 1, i), BALL_VERTICES - 1, ring(rings - 1, i + 1)])
    return np.array(faces)


def fit_spheres(upstream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares spheres `[n, 3]`, `[n]` of upstream eye vertices `[n, 72, 3]`."""
    mean = upstream.mean(1, keepdims=True)
    p = upstream - mean
    a = np.concatenate([2 * p, np.ones_like(p[..., :1])], -1)
    b = (p**2).sum(-1, keepdims=True)
    solution = np.linalg.solve(a.transpose(0, 2, 1) @ a, a.transpose(0, 2, 1) @ b)[..., 0]
    return mean[:, 0] + solution[:, :3], np.sqrt(solution[:, 3] + (solution[:, :3] ** 2).sum(-1))


def balls(centres: np.ndarray, radii: np.ndarray, side: str) -> np.ndarray:
    """Ball vertices `[n, BALL_VERTICES, 3]`."""
    ball = unit_ball() * ([1, 1, 1] if side == "left" else [-1, 1, 1])
    return centres[:, None] + radii[:, None, None] * ball


def gaze_rotation(direction: str, side: str) -> np.ndarray:
    """Rotation `[3, 3]` of an eye at coefficient 1 of eyeLook<direction>."""
    angle = np.radians(GAZE_DEG[direction])
    c, s = np.cos(angle), np.sin(angle)
    if direction in ("Up", "Down"):
        s = -s if direction == "Up" else s  # about +x, positive turns +z to -y
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    towards_left = (direction == "Out") == (side == "left")  # +x
    s = s if towards_left else -s
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def centre_weights() -> np.ndarray:
    """Weights `[BALL_VERTICES]` whose combination of any ball's vertices is its centre (least norm, exact)."""
    ball = unit_ball()
    conditions = np.concatenate([np.ones((1, BALL_VERTICES)), ball.T])
    return np.linalg.pinv(conditions) @ np.array([1.0, 0, 0, 0])
