"""The last steps: pictures and what may be expected of unseen splats, weighed against each other."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.appearance.splats.cloud import AXIS, Cloud
from avatar3d.appearance.splats.fit import draw, face_sizes, on_background, photometric, restrain
from avatar3d.appearance.splats.hidden import Hidden
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.shots import Shot
from avatar3d.types.gaussians import Gaussians

STEPS = 0.15
"""Of these steps, in terms of those before."""
RATE, DECAY = 1.0, 0.05
"""Of the first step, in terms of the very first one of all, and what the last one's is of that."""
HOLD = 5e-7
"""How strongly unseen splats are held to what is expected: in a picture of 256 pixels square, a splat that covers a
fortieth of a pixel moves its colour by a tenth of a unit for it."""
RESTRAIN_EVERY = 10


def polish(
    gaussians: Gaussians, unseen: Float[Tensor, "n"], poses: Poses, shots: list[Shot], steps: int, ssim: float,
    seed: int, progress: Callable[[str, int, int], None] | None = None,
) -> Gaussians:  # fmt: skip
    """Some steps more, in which splats are held to what they are, the more the less they are seen.

    Where completed splats show in the pictures after all, in outlines that are seen at a graze, the pictures have a
    say; where they do not, nothing changes. Poses stay, and so do splats that are seen well.

    Args:
        gaussians: Completed.
        unseen: How unseen each is, 0..1.
        poses: Where the head is in every frame.
        shots: The pictures.
        steps: How many.
        ssim: Share of D-SSIM in the loss.
        seed: Of everything random.
        progress: Called with stage, done, total.
    """
    cloud, sizes, hidden = Cloud(gaussians), face_sizes(poses.rig), Hidden(poses)
    generator = torch.Generator().manual_seed(seed)
    homes = {name: x.detach().clone() for name, x in cloud.leaves.items()}
    seen = unseen == 0
    order: list[int] = []
    for step in range(steps):
        if not order:
            order = torch.randperm(len(shots), generator=generator).tolist()
        shot = shots[order.pop()]
        with torch.no_grad():
            vertices, coefficients, R_head = poses.vertices(torch.tensor([shot.frame]))
        background = torch.rand(3, generator=generator)
        drawn, _ = draw(cloud.gaussians(), poses, vertices, coefficients, R_head, shot, background)
        (photometric(drawn, on_background(shot, background), ssim) * shot.weight).backward()
        hold = 2 * HOLD * 256**2 / drawn[..., 0].numel()
        for name, x in cloud.leaves.items():
            if x.grad is not None:
                shape = [1] * x.ndim
                shape[AXIS.get(name, 0)] = -1
                x.grad += hold * unseen.view(shape) * (x.detach() - homes[name])
        cloud.step(RATE * DECAY ** (step / steps), hidden(shot)[gaussians.face.long()] | seen)
        if (step + 1) % RESTRAIN_EVERY == 0:
            restrain(cloud, sizes)
        if progress:
            progress("unseen", step + 1, steps)
    return cloud.detached()
