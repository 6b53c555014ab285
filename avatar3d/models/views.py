"""Random pictures of a model's heads with known geometry, from which its landmarks are learned and judged."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from avatar3d import ops
from avatar3d.geometry.colour import linear_to_srgb, srgb_to_linear
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import vertex_normals
from avatar3d.models.linear import LinearModel
from avatar3d.models.paint import paint, random_palette
from avatar3d.typing import typed

Detect = Callable[[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "4"]], Float[Tensor, "478 2"] | None]
"""Finds 478 landmarks, pixels, in a picture whose face lies within a box x0 y0 x1 y1; None where it sees none."""

SIZE = 256
COMPONENTS = 60


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """What the pictures show."""

    identity: float = 0.8
    """Standard deviation of the identity coefficients."""
    expression: float = 1.0
    """Strength of the expressions; 0 for neutral faces."""
    yaw: float = 20.0
    """Standard deviation, degrees; at most 2.2 times that."""
    pitch: float = 10.0
    roll: float = 8.0


DEFAULT_VIEWS = ViewConfig()


@dataclass(frozen=True, kw_only=True)
class View:
    """One picture and where every vertex is in it."""

    image: UInt8[np.ndarray, "h w 3"]
    pixels: Float[Tensor, "v 2"]
    facing: Float[Tensor, "v"]
    """Cosine between every vertex's normal and the direction to the camera."""
    seen: Bool[Tensor, "f"]
    """Triangles that the picture shows."""
    per_metre: float
    """Pixels per metre at the face's depth."""
    angles: tuple[float, float, float]
    """Yaw, pitch and roll, degrees."""
    expression: Float[Tensor, "e"]
    """The model's own coefficients."""
    rest: Float[Tensor, "v 3"]
    """Vertices in model space, expression included, metres."""


@typed
def random_expression(model: LinearModel, rng: torch.Generator, strength: float = 1.0) -> Float[Tensor, "e"]:
    """A few ARKit shapes at random strength, the jaw and the lids more often; small mixtures for other bases."""
    names = model.expression_names
    out = torch.zeros(len(names))

    def uniform() -> float:
        return float(torch.rand((), generator=rng))

    def put(value: float, *chosen: str) -> None:
        for name in chosen:
            if name in names:
                out[names.index(name)] = max(value, float(out[names.index(name)]))

    if not any(n in names for n in ("jawOpen", "eyeBlinkLeft")):
        few = min(20, len(names))
        out[:few] = 0.7 * torch.randn(few, generator=rng)
        return strength * out
    free = [i for i, n in enumerate(names) if n not in ("mouthClose", "tongueOut") and not n.startswith("eyeLook")]
    if free:
        for i in torch.randint(len(free), (int(4 * uniform()),), generator=rng).tolist():
            out[free[i]] = 0.7 * uniform()
    if uniform() < 0.6:
        put(0.9 * uniform(), "jawOpen")
    if uniform() < 0.35:
        put(uniform(), "eyeBlinkLeft", "eyeBlinkRight")
    if uniform() < 0.3:
        put(0.9 * uniform(), "mouthSmileLeft", "mouthSmileRight")
    if uniform() < 0.2:
        put(uniform(), "browInnerUp", "browOuterUpLeft", "browOuterUpRight")
    if uniform() < 0.15:
        put(0.9 * uniform(), "mouthPucker")
    sideways, up = 1.2 * (uniform() - 0.5), 1.2 * (uniform() - 0.5)
    put(max(sideways, 0), "eyeLookOutLeft", "eyeLookInRight")
    put(max(-sideways, 0), "eyeLookInLeft", "eyeLookOutRight")
    put(max(up, 0), "eyeLookUpLeft", "eyeLookUpRight")
    put(max(-up, 0), "eyeLookDownLeft", "eyeLookDownRight")
    return strength * out


@typed
def random_views(
    model: LinearModel, count: int, seed: int = 0, config: ViewConfig = DEFAULT_VIEWS, size: int = SIZE
) -> Iterator[View]:
    """Draws heads of random identity, expression, pose, skin, hair, light and background.

    Args:
        model: The model.
        count: Pictures.
        seed: Of the randomness.
        config: What they show.
        size: Side of the pictures, pixels.
    """
    rng = torch.Generator().manual_seed(seed)
    eyes = _eye_middle(model)
    for _ in range(count):
        yield _view(model, rng, config, size, eyes)


def _eye_middle(model: LinearModel) -> Tensor:
    if {"eye_left", "eye_right"} <= set(model.joint_names):
        return model.joint_template[[model.joint_index("eye_left"), model.joint_index("eye_right")]].mean(0)
    front = model.template[model.template[:, 2] > model.template[:, 2].quantile(0.9)]
    return front.mean(0)


def _view(model: LinearModel, rng: torch.Generator, config: ViewConfig, size: int, eyes: Tensor) -> View:
    def normal(n: int = 1) -> Tensor:
        return torch.randn(n, generator=rng)

    identity = config.identity * normal(min(COMPONENTS, len(model.identity_basis)))
    expression = random_expression(model, rng, config.expression)
    joints = torch.zeros(1, len(model.joint_names), 3)
    if config.expression and not any(n.startswith("eyeLook") for n in model.expression_names):
        gaze = 0.15 * normal(2).clamp(-2, 2)
        for name in {"eye_left", "eye_right"} & set(model.joint_names):
            joints[0, model.joint_index(name), :2] = gaze
    if config.expression and "jawOpen" not in model.expression_names and "jaw" in model.joint_names:
        open_mouth = float(torch.rand((), generator=rng)) < 0.6
        joints[0, model.joint_index("jaw"), 0] = 0.35 * float(torch.rand((), generator=rng)) if open_mouth else 0.0
    rest = model.forward(identity[None], expression[None], joints).vertices[0]

    degrees = torch.tensor([config.yaw, config.pitch, config.roll]) * normal(3).clamp(-2.2, 2.2)
    yaw, pitch, roll = torch.deg2rad(degrees)
    R = rotvec_to_matrix(torch.stack([torch.stack([0 * roll, 0 * roll, roll]), torch.stack([pitch, 0 * yaw, 0 * yaw]),
                                      torch.stack([0 * yaw, yaw, 0 * yaw])]))  # fmt: skip
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    distance = 0.45 + 0.9 * float(torch.rand((), generator=rng))
    share = 0.5 + 0.3 * float(torch.rand((), generator=rng))  # of the picture that 0.2 m of head fill
    focal = share * size * distance / 0.2
    middle = eyes + torch.tensor([0.0, -0.035, -0.02])
    shift = torch.cat([0.015 * normal(2), torch.tensor([distance])])
    points = (rest - middle) @ (flip @ R[0] @ R[1] @ R[2]).T + shift
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    projected = points @ K.T
    pixels = projected[:, :2] / projected[:, 2:]

    normals = vertex_normals(points[None], model.faces)
    towards = -torch.nn.functional.normalize(points, dim=1)
    facing = (normals[0] * towards).sum(1)
    raster = ops.rasterize(points[None], model.faces, K[None], size, size)
    colours = _lit(paint(model, random_palette(rng), hair=float(torch.rand((), generator=rng)) < 0.8), normals[0], rng)
    attributes = ops.interpolate(colours[None], model.faces, raster.triangle, raster.barycentrics)[0]
    behind = _background(size, rng)
    image = torch.where((raster.triangle[0] >= 0)[..., None], attributes, behind)
    image = image + 0.01 * torch.randn(image.shape, generator=rng)
    return View(
        image=(255 * image.clamp(0, 1)).round().to(torch.uint8).numpy(),
        pixels=pixels,
        facing=facing,
        seen=torch.bincount(raster.triangle.flatten() + 1, minlength=len(model.faces) + 1)[1:] > 0,
        per_metre=focal / distance,
        angles=(float(degrees[0]), float(degrees[1]), float(degrees[2])),
        expression=expression,
        rest=rest,
    )


def _lit(colours: Tensor, normals: Tensor, rng: torch.Generator) -> Tensor:
    """sRGB colours under one soft lamp in front and light from everywhere, camera space."""
    direction = torch.nn.functional.normalize(
        torch.stack([1.2 * torch.randn((), generator=rng), -0.5 + 0.6 * torch.randn((), generator=rng),
                     torch.tensor(-1.2)]), dim=0)  # fmt: skip
    ambient = 0.35 + 0.3 * float(torch.rand((), generator=rng))
    lamp = (0.25 + 0.75 * (normals @ direction)).clamp_min(0)
    strength = ambient + (1.1 - ambient) * lamp + 0.08 * (-normals[:, 1])
    return linear_to_srgb(srgb_to_linear(colours) * strength[:, None].clamp_min(0.02)).clamp(0, 1)


def _background(size: int, rng: torch.Generator) -> Tensor:
    """A smooth field of random colours."""
    coarse = 0.25 * torch.rand(1, 3, 4, 4, generator=rng) + torch.rand(1, 3, 1, 1, generator=rng)
    coarse = torch.lerp(coarse.mean(1, keepdim=True), coarse, 0.6)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)
    return smooth[0].permute(1, 2, 0)


def face_box(model: LinearModel, view: View) -> Float[np.ndarray, "4"]:
    """Roughly the face in a picture, x0 y0 x1 y1, pixels: where the skin between brows and chin must be."""
    if "face" in model.regions:
        p = view.pixels[model.regions["face"]]
    else:
        eyes = _eye_middle(model)
        near = (model.template - eyes - torch.tensor([0.0, -0.03, 0.0])).norm(dim=1) < 0.075
        p = view.pixels[near & (model.template[:, 2] > eyes[2] - 0.03)]
    low, high = p.amin(0), p.amax(0)
    half = 0.5 * float((high - low).max()) * math.sqrt(1.0)
    middle = 0.5 * (low + high)
    return torch.cat([middle - half, middle + half]).double().numpy()
