"""Pairs of meshes of one person, drawn from the `head` model, of which the skull's motion is known.

Every draw takes other people, other expressions, other parts and densities of the surface, other noise, and skin that
slides over the skull. What is drawn are points on the surface that are the same in both meshes, so that no topology
can be learned.
"""

from dataclasses import dataclass

import torch
from stabilizer.motions import MM, Motions, squares
from torch import Tensor

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import vertex_normals
from avatar3d.geometry.transform import apply, invert_rigid, make_transform, procrustes
from avatar3d.nets.stabilizer import Patches
from avatar3d.stabilize.align import robust_steps
from avatar3d.stabilize.locate import FEWEST
from avatar3d.stabilize.patches import MOST, cells, chosen, group, means
from avatar3d.stabilize.regions import NOSE_TIP


@dataclass
class Pairs:
    """Points of a batch of pairs. The skull of `y` lies where that of `x` does: the true motion is the identity."""

    x: Tensor
    """[b, m, 3] metres, model space."""
    y: Tensor
    own: Tensor
    """[b, m, 3] the skin's own motion, without noise."""
    normal: Tensor
    mean_head: Tensor
    """[b, m, 3] the same points on the mean head."""
    skull: Tensor
    """[b, s, 3] points of the skull."""


class Generator(Motions):
    """Draws pairs."""

    # -- what is seen -------------------------------------------------------------------------------------------

    def coverage(self, b: int) -> Tensor:
        """[b, f] how densely each face is sampled; zero where nothing is seen."""
        c = self.face_centre
        density = self.area * torch.exp(self.waves(c, b, 0.05, 0.25) * self.uniform(b, 1, high=0.8))
        front = 1 + self.uniform(b, 1, high=4) * torch.sigmoid((c[:, 2] - 0.04) / 0.01) * self.chance(0.5, b)[:, None]
        density = density * front
        seen = torch.ones_like(density, dtype=torch.bool)
        kind = torch.multinomial(torch.tensor([0.22, 0.44, 0.34]), b, replacement=True, generator=self.rng)[:, None]
        # a face: an oval from the chin to the hairline, in front of the ears
        middle = self.uniform(b, 1, low=0.015, high=0.04)
        high = self.uniform(b, 1, low=0.085, high=0.13)
        wide = self.uniform(b, 1, low=0.06, high=0.095)
        depth = self.uniform(b, 1, low=-0.01, high=0.05)
        oval = ((c[:, 0] / wide).square() + ((c[:, 1] - middle) / high).square() < 1) & (c[:, 2] > depth)
        # a narrow face: little or nothing of the forehead
        wide = self.uniform(b, 1, low=0.038, high=0.06)
        low, top = self.uniform(b, 1, low=-0.085, high=-0.03), self.uniform(b, 1, low=0.055, high=0.1)
        narrow = (c[:, 0].abs() < wide) & (c[:, 1] > low) & (c[:, 1] < top) & (c[:, 2] > 0.04)
        round_ = self.chance(0.5, b)[:, None]
        middle, half = (low + top) / 2, (top - low) / 2
        narrow &= ~round_ | ((c[:, 0] / wide).square() + ((c[:, 1] - middle) / half).square() < 1)
        seen &= torch.where(kind == 0, seen, torch.where(kind == 1, oval, narrow))
        seen &= ~self.face_inside | self.chance(0.35, b)[:, None]
        seen &= ~self.face_balls | self.chance(0.6, b)[:, None]
        neck_cut = self.uniform(b, 1, low=-0.16, high=-0.05)
        seen &= (c[:, 1] > neck_cut) | (kind != 0)
        # holes
        holey = self.chance(0.35, b)[:, None]
        for _ in range(6):
            at = c[self.choose(density, 1)[:, 0]]
            hole = squares(c, at) < self.uniform(b, 1, low=0.005, high=0.035).square()
            kept = seen & ~(hole & holey)
            enough = kept.sum(1, keepdim=True) > 0.5 * seen.sum(1, keepdim=True)
            seen = torch.where(enough, kept, seen)
        return density * seen

    def people(self, b: int) -> tuple[Tensor, Tensor, Tensor]:
        """[b, v, 3] the face at rest, its expression before, and how its skin then moves."""
        model = self.model
        identity = self.normal_(b, model.identity_basis.shape[0]) * self.uniform(b, 1, low=0.4, high=1.2)
        base = model.rest_vertices(identity)
        # faces that the model cannot have
        base = base + self.swell(b, 0.08, 0.3) * (self.uniform(b, high=4 * MM) * self.chance(0.75, b))[:, None, None]
        before, after = self.expressions(b), self.expressions(b)
        same = self.chance(0.25, b)[:, None]  # the second frame is often much like the first
        after = torch.where(same, (before + (after - before) * self.uniform(b, 1, high=0.4)), after)
        scale = model.scale(identity)[:, None]
        size = self.uniform(b, len(model.expression_names), low=0.6, high=1.7)  # other people's smiles
        own_a, own_b = torch.zeros_like(base), torch.zeros_like(base)
        for half in self.halves:
            basis = model.expression_basis[half].flatten(1)
            vary = self.uniform(b, 1, high=0.5) * self.waves(model.template, b, 0.06, 0.2)
            factor = (scale * size)[:, half]
            for own, at in ((own_a, before), (own_b, after)):
                own += ((at[:, half] * factor) @ basis).view(b, -1, 3) * (1 + vary)[..., None]
        own = own_b - own_a
        own = own + self.elsewhere(own) * self.chance(0.55, b)[:, None, None]
        own = own + self.leaks(after - before) * self.chance(0.55, b)[:, None, None]
        own = own + self.sliding(after - before) * self.chance(0.7, b)[:, None, None] + self.neck(b)
        return base, own_a, own

    def draw(self, b: int) -> Pairs:
        """A batch of pairs; each person is seen twice, on different points and once in either direction."""
        model, rng = self.model, self.rng
        base, own_a, own = self.people(b // 2)
        base, own_a, own = (torch.cat(v) for v in ((base, base), (own_a, own_a + own), (own, -own)))
        vertices = base + own_a
        normals = vertex_normals(vertices, model.faces)

        m = (500, 900, 1800, 3600, 7000)[int(torch.randint(5, (1,), generator=rng))]
        face = self.choose(self.coverage(b), m)
        u, v = torch.rand((2, b, m, 1), generator=rng)
        flip = u + v > 1
        u, v = torch.where(flip, 1 - u, u), torch.where(flip, 1 - v, v)
        w = torch.cat([1 - u - v, u, v], -1)
        corners = model.faces[face]  # b m 3

        def on(values: Tensor) -> Tensor:
            if values.ndim == 2:
                return (values[corners] * w[..., None]).sum(2)
            index = corners.reshape(b, -1, 1).expand(-1, -1, 3)
            return (values.gather(1, index).view(b, m, 3, 3) * w[..., None]).sum(2)

        x, moved, n, mean_head = on(vertices), on(own), on(normals), on(model.template)
        sigma = (self.logarithmic(b, 0.03 * MM, 1.5 * MM) * self.chance(0.55, b))[:, None, None]
        n = torch.nn.functional.normalize(n, dim=-1) + (0.4 * sigma / MM + 0.03) * self.normal_(b, m, 3)
        skull = base[:, self.skull_index]
        return Pairs(
            x=x + sigma * self.normal_(b, m, 3), y=x + moved + sigma * self.normal_(b, m, 3), own=moved,
            normal=torch.nn.functional.normalize(n, dim=-1), mean_head=mean_head, skull=skull,
        )  # fmt: skip

    # -- what the networks get ----------------------------------------------------------------------------------

    def located(self, pairs: Pairs) -> tuple[Patches, Tensor, Tensor, Tensor]:
        """Patches in the mean head's frame as the locator would find it, and the truth.

        The frame is that of the similarity nearest to the mean head, off by what a locator may be off; y is off by a
        degree or so, and mostly aligned again as it will be in use.

        Returns:
            Patches, the skin's own motion, the skull's points, the skull's motion T_y_x.
        """
        b = len(pairs.x)
        T = torch.stack([procrustes(x, h, with_scale=True) for x, h in zip(pairs.x, pairs.mean_head, strict=True)])
        T = self._jolt(b, 0.07, 0.004, 0.04) @ T
        A = T[:, :3, :3]
        unit = torch.linalg.det(A).pow(1 / 3)[:, None, None]
        x, skull = (p @ A.mT + T[:, None, :3, 3] for p in (pairs.x, pairs.skull))
        y, own, n = pairs.y @ A.mT + T[:, None, :3, 3], pairs.own @ A.mT, pairs.normal @ A.mT / unit
        number, count = group(cells(x))
        off = y - x
        both, counts = means(torch.cat([x, y, n, own, (off * off).sum(-1, keepdim=True)], -1), number, count)
        # at most so many patches, any of them
        most = [MOST * 3 // 8, MOST * 5 // 8][int(torch.randint(2, (1,), generator=self.rng))]
        kept = chosen(counts, most, self.rng)
        both = both.gather(1, kept[..., None].expand(-1, -1, both.shape[-1]))
        counts = counts.gather(1, kept)
        x, y, n, own, square = both.split([3, 3, 3, 3, 1], -1)
        spread = (square[..., 0] - (y - x).square().sum(-1)).clamp_min(0).sqrt()
        mask = counts > 0
        T = self._jolt(b, self.logarithmic(b, 3e-4, 0.03)[:, None], self.logarithmic(b, 3e-5, 3e-3)[:, None], 0.0)
        y = apply(T, y)
        # from the upper face, as in use, where enough of it is seen
        upper = mask & (x[..., 1] > NOSE_TIP)
        upper = torch.where((upper.sum(1) >= FEWEST)[:, None] & self.chance(0.85, b)[:, None], upper, mask)
        align = robust_steps(x, y, upper * counts, steps=6)
        align[self.chance(0.25, b)] = torch.eye(4)
        back = invert_rigid(align)
        patches = Patches(x=x, y=apply(back, y), normal=torch.nn.functional.normalize(n, dim=-1), spread=spread,
                          count=counts, mask=mask)  # fmt: skip
        return patches, own, skull, back @ T

    def _jolt(self, b: int, angle: float | Tensor, shift: float | Tensor, stretch: float) -> Tensor:
        T = make_transform(rotvec_to_matrix(angle * self.normal_(b, 3)), shift * self.normal_(b, 3))
        T[:, :3, :3] *= (stretch * self.normal_(b, 1, 1)).exp()
        return T
