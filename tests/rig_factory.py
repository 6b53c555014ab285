"""A small head-like avatar for tests that need no head asset: an egg with a UV seam, six joints, 52 local shapes."""

import math

import torch

from avatar3d.types import ARKIT_NAMES, Avatar, Gaussians, Motion, Rig, TextureSet


def make_rig(rings: int = 12, segments: int = 16) -> Rig:
    """An ellipsoid 24 cm high around (0, 0.1, 0); the seam runs down its back."""
    theta = torch.linspace(0.05, math.pi - 0.05, rings, dtype=torch.float64)
    phi = torch.arange(segments, dtype=torch.float64) * (2 * math.pi / segments)
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    neutral = torch.stack([-0.075 * t.sin() * p.sin(), 0.1 + 0.12 * t.cos(), -0.09 * t.sin() * p.cos()], -1)
    neutral = neutral.reshape(-1, 3)
    u, v = torch.meshgrid(torch.arange(segments + 1).double() / segments, 1 - theta / math.pi, indexing="xy")
    uvs = torch.stack([u, v], -1).reshape(-1, 2)
    i, j = torch.meshgrid(torch.arange(rings - 1), torch.arange(segments), indexing="ij")

    def grid(width: int) -> torch.Tensor:
        k = (j + 1) % width
        a, b, c, d = i * width + j, (i + 1) * width + j, (i + 1) * width + k, i * width + k
        return torch.stack([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)], 2).reshape(-1, 3)

    faces, uv_faces = grid(segments), grid(segments + 1)
    rng = torch.Generator().manual_seed(1)
    centres = neutral[torch.randint(len(neutral), (52,), generator=rng)]
    near = torch.exp(-((neutral[None] - centres[:, None]) ** 2).sum(-1) / (2 * 0.02**2))
    near[near < 0.01] = 0
    direction = torch.randn(52, 1, 3, generator=rng, dtype=torch.float64)
    shapes = 0.01 * near[..., None] * direction
    positions = torch.tensor(
        [[0, -0.1, 0], [0, 0, -0.02], [0, 0.06, 0], [0, 0.08, 0.03], [0.03, 0.14, 0.05], [-0.03, 0.14, 0.05]],
        dtype=torch.float64,
    )
    down = ((0.06 - neutral[:, 1]) / 0.05).clamp(0, 1)
    weights = torch.zeros(len(neutral), 6, dtype=torch.float64)
    weights[:, 1], weights[:, 2] = down * 0.7, 1 - down
    weights[:, 0], weights[:, 3] = down * 0.2, down * 0.1
    return Rig(
        neutral=neutral.float(),
        faces=faces,
        uvs=uvs.float(),
        uv_faces=uv_faces,
        shapes=shapes.float(),
        shape_names=ARKIT_NAMES,
        joint_names=("root", "neck", "head", "jaw", "eye_left", "eye_right"),
        joint_parents=(-1, 0, 1, 2, 2, 2),
        joint_positions=positions.float(),
        skinning_weights=weights.float(),
        regions={"lips_outer": neutral[:, 1] < 0.0, "scalp": neutral[:, 1] > 0.18},
    )


def make_motion(frames: int = 20, fps: float = 25.0, seed: int = 0) -> Motion:
    """Random, with every joint turning and the root moving."""
    rng = torch.Generator().manual_seed(seed)
    names = ("root", "neck", "head", "jaw", "eye_left", "eye_right")
    return Motion(
        fps=fps,
        expression=torch.rand(frames, 52, generator=rng),
        rotations={name: 0.4 * torch.randn(frames, 3, generator=rng) for name in names},
        translation=0.1 * torch.randn(frames, 3, generator=rng),
        source="random",
    )


def make_avatar(motion: Motion | None = None, texture: int = 64) -> Avatar:
    """The egg with a picture on it."""
    ramp = torch.linspace(60, 230, texture)
    albedo = torch.stack(
        [ramp[None].expand(texture, -1), ramp[:, None].expand(-1, texture), 0 * ramp + 128 + 0 * ramp[:, None]], -1
    )
    return Avatar(
        model="egg",
        identity=torch.zeros(3),
        rig=make_rig(),
        appearance=TextureSet(albedo=albedo.to(torch.uint8)),
        motion=motion,
        manifest={"model": {"name": "egg", "licence": "Apache-2.0"}},
    )


def make_gaussians(rig: Rig, count: int = 200, *, degree: int = 2, components: int = 4, seed: int = 0) -> Gaussians:
    """Random splats on a rig and its anchors, opaque enough to be seen, all groups, with a basis unless `components`
    is 0."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    weights = torch.rand(count, 3, generator=rng)
    return Gaussians(
        face=torch.randint(len(rig.faces) + len(rig.joint_names), (count,), generator=rng, dtype=torch.int32),
        barycentrics=weights / weights.sum(-1, keepdim=True),
        offsets=0.1 * normal(count, 3),
        quats=normal(count, 4),
        log_scales=-1.5 + 0.3 * normal(count, 3),
        logit_opacities=1 + normal(count),
        sh=0.3 * normal(count, (degree + 1) ** 2, 3),
        mixing=0.3 * normal(components, len(rig.shape_names)) if components else None,
        basis=0.05 * normal(components, count, 14) if components else None,
        limits=torch.tensor([[-0.5, 0.5]]).repeat(components, 1) if components else None,
        group=torch.randint(5, (count,), generator=rng, dtype=torch.uint8),
    )
