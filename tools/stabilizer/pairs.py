"""Pairs of meshes of one person, drawn from the `head` model, of which the skull's motion is known.

Every draw takes other people, other expressions, other parts and densities of the surface, other noise, and skin that
slides over the skull. What is drawn are points on the surface that are the same in both meshes, so that no topology
can be learned.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import vertex_normals
from avatar3d.geometry.transform import apply, invert_rigid, make_transform, procrustes
from avatar3d.models.linear import LinearModel
from avatar3d.nets.stabilizer import Patches
from avatar3d.stabilize.align import robust_steps
from avatar3d.stabilize.locate import FEWEST
from avatar3d.stabilize.patches import MOST, cells, chosen, group, means
from avatar3d.stabilize.regions import NOSE_TIP

MM = 1e-3
INSIDE = ("teeth_upper", "gums_upper", "teeth_lower", "gums_lower", "tongue", "mouth_cavity", "eye_socket_left",
          "eye_socket_right")  # fmt: skip
BALLS = ("eyeball_left", "eyeball_right", "lacrimal_left", "lacrimal_right")


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


def squares(points: Tensor, centres: Tensor) -> Tensor:
    """[b, v] squared distances of [v, 3] points from [b, 3] centres."""
    return (points.square().sum(1) - 2 * centres @ points.mT + centres.square().sum(1)[:, None]).clamp_min(0)


def through(matrix: Tensor, field: Tensor) -> Tensor:
    """[b, w, 3] of [w, v] and [b, v, 3]; one product of matrices, which is several times faster than a batch of thin
    ones."""
    b, v, c = field.shape
    return (matrix @ field.transpose(0, 1).reshape(v, b * c)).view(-1, b, c).transpose(0, 1)


class Generator:
    """Draws pairs."""

    def __init__(self, model: LinearModel, seed: int) -> None:
        self.model = model
        self.rng = torch.Generator().manual_seed(seed)
        r = model.regions
        self.inside = torch.stack([r[n] for n in INSIDE]).any(0)
        self.balls = torch.stack([r[n] for n in BALLS]).any(0)
        self.skin = ~(self.inside | self.balls)
        self.skin_index = self.skin.nonzero()[:, 0]
        self.normals = vertex_normals(model.template, model.faces)
        names = {n: i for i, n in enumerate(model.expression_names)}
        self.groups = {
            "jaw": [i for n, i in names.items() if n.startswith("jaw") or n == "mouthClose"],
            "mouth": [i for n, i in names.items() if n.startswith("mouth")],
            "brow": [i for n, i in names.items() if n.startswith("brow")],
            "eye": [i for n, i in names.items() if n.startswith("eye")],
            "cheek": [i for n, i in names.items() if n.startswith(("cheek", "nose"))],
        }
        self.jaw_open, self.close = names["jawOpen"], names["mouthClose"]
        weight = torch.zeros(len(names))
        for n, i in names.items():
            weight[i] = {"brow": 1.0, "eyeB": 1.0, "eyeL": 0.4, "eyeS": 0.8, "eyeW": 0.8, "jawO": 4.0}.get(n[:4], 1.0)
        weight[names["tongueOut"]] = 0.3
        self.popularity = weight
        skull = r["skull_attached"] | r["teeth_upper"]
        self.skull_index = skull.nonzero()[:, 0][:: max(1, int(skull.sum()) // 64)]
        self.brow_up = [i for n, i in names.items() if n.startswith("brow") and "Up" in n]
        self.brow_down = [i for n, i in names.items() if n.startswith("browDown")]
        self.smile = [i for n, i in names.items() if n.startswith(("mouthSmile", "cheekSquint", "cheekPuff"))]
        a, b, c = (model.template[model.faces[:, i]] for i in range(3))
        self.area = torch.linalg.cross(b - a, c - a).norm(dim=1) / 2
        self.face_centre = (a + b + c) / 3
        self.face_inside = self.inside[model.faces].any(1)
        self.face_balls = self.balls[model.faces].any(1)
        upper = torch.zeros(len(names), dtype=torch.bool)
        upper[self.groups["brow"] + self.groups["eye"]] = True
        self.halves = (upper, ~upper)
        front = (model.template[self.skin_index, 2] > 0).float()
        self.spots = self.skin_index[torch.multinomial(0.3 + front, 300, generator=self.rng)]
        self.spreads = [self._spread(width) for width in (0.016, 0.025, 0.04, 0.06)]
        self.jaw = model.joint_template[model.joint_names.index("jaw")] if "jaw" in model.joint_names else (
            torch.tensor([0.0, 0.0, 0.01]))  # fmt: skip

    # -- randomness ---------------------------------------------------------------------------------------------

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers."""
        return low + (high - low) * torch.rand(shape, generator=self.rng)

    def normal_(self, *shape: int) -> Tensor:
        """Unit Gaussian numbers."""
        return torch.randn(shape, generator=self.rng)

    def chance(self, p: float, b: int) -> Tensor:
        """[b] booleans."""
        return torch.rand(b, generator=self.rng) < p

    def logarithmic(self, b: int, low: float, high: float) -> Tensor:
        """Evenly spread over the orders of magnitude."""
        return (log(low) + (log(high) - log(low)) * torch.rand(b, generator=self.rng)).exp()

    def choose(self, density: Tensor, count: int) -> Tensor:
        """[b, count] rows of [b, n], as often as they are dense."""
        total = density.cumsum(1)
        at = torch.rand((len(density), count), generator=self.rng) * total[:, -1:]
        return torch.searchsorted(total, at).clamp(max=density.shape[1] - 1)

    # -- what moves ---------------------------------------------------------------------------------------------

    def expressions(self, b: int) -> Tensor:
        """[b, 52] a few shapes at a time, jaws more often than not, sometimes a single one, sometimes none."""
        e = len(self.popularity)
        wanted = self.logarithmic(b, 1.5, 30)
        p = (self.popularity / self.popularity.sum() * wanted[:, None]).clamp(max=0.95)
        on = torch.rand((b, e), generator=self.rng) < p
        value = self.uniform(b, e).sqrt() * self.logarithmic(b, 0.2, 1.2)[:, None]
        out = value * on + 0.1 * self.uniform(b, e) * self.chance(0.3, b)[:, None]
        # both sides together, most of the time
        both = self.chance(0.6, b)[:, None]
        mirrored = self._other_side(out)
        out = torch.where(both, torch.maximum(out, 0.9 * mirrored), out)
        out[:, self.close] = torch.minimum(out[:, self.close], out[:, self.jaw_open])
        out[self.chance(0.15, b)] = 0
        single = self.chance(0.2, b).nonzero()[:, 0]
        if len(single):
            which = torch.multinomial(self.popularity.expand(len(single), -1), 1, generator=self.rng)[:, 0]
            out[single] = 0
            out[single, which] = self.uniform(len(single), low=0.2, high=1.1)
        return out

    def _other_side(self, e: Tensor) -> Tensor:
        names = self.model.expression_names
        index = [names.index(n.replace("Left", "#").replace("Right", "Left").replace("#", "Right"))
                 for n in names]  # fmt: skip
        return e[:, index]

    def waves(self, points: Tensor, b: int, shortest: float, longest: float, count: int = 3) -> Tensor:
        """[b, v] smooth random functions of about unit variance over [v, 3] points."""
        direction = torch.nn.functional.normalize(self.normal_(b, count, 3), dim=-1)
        k = 6.28 / self.logarithmic(b * count, shortest, longest).view(b, count, 1) * direction
        phase = self.uniform(b, count, high=6.28)
        return torch.cos(torch.einsum("vc,bkc->bkv", points, k) + phase[..., None]).sum(1) * (2 / count) ** 0.5

    def _spread(self, width: float) -> tuple[Tensor, Tensor]:
        """[c, v] and [v, c] that take a field to averages about points of the skin, and those back to the skin."""
        x = self.model.template
        near = torch.exp(-0.5 * torch.cdist(x, x[self.spots]).square() / width**2)
        gather = near * self.skin[:, None]
        return (gather / gather.sum(0)).mT.contiguous(), near / near.sum(1, keepdim=True).clamp_min(1e-3)

    def swell(self, b: int, shortest: float, longest: float) -> Tensor:
        """[b, v, 3] smooth random displacements of about unit variance."""
        spots = self.model.template[self.spots]
        waves = torch.stack([self.waves(spots, b, shortest, longest) for _ in range(3)], -1)
        return through(self.spreads[0][1], waves)

    def anchors(self, b: int) -> Tensor:
        """[b, v] small where skin is held by the skull: for each person some of bridge, crown, temples, back; some
        hold it fast, some loosely."""
        x = self.model.template

        def grip(p: float) -> Tensor:
            fast = self.chance(0.5, b).float()
            return ((fast + (1 - fast) * self.uniform(b, low=0.3, high=1.0)) * self.chance(p, b))[:, None]

        bridge = torch.tensor([0.0, 0.028, 0.105]) + 0.006 * self.normal_(b, 3)
        held = torch.exp(-0.5 * squares(x, bridge) / self.uniform(b, 1, low=0.008, high=0.022).square())
        loose = 1 - held * grip(0.75)
        height = self.uniform(b, 1, low=0.07, high=0.12)
        crown = torch.sigmoid((x[:, 1] - height) / self.uniform(b, 1, low=0.004, high=0.02))
        loose = loose * (1 - crown * grip(0.5))
        wide = self.uniform(b, 1, low=0.05, high=0.075)
        for side in (-1, 1):
            temple = torch.sigmoid((side * x[:, 0] - wide) / self.uniform(b, 1, low=0.003, high=0.012))
            temple = temple * torch.sigmoid((x[:, 1] - self.uniform(b, 1, low=-0.05, high=0.03)) / 0.01)
            loose = loose * (1 - temple * grip(0.5))
        back = torch.sigmoid((self.uniform(b, 1, low=-0.04, high=0.05) - x[:, 2]) / 0.01)
        return loose * (1 - back * grip(0.5))

    def elsewhere(self, own: Tensor) -> Tensor:
        """[b, v, 3] motion as other generators have it, beside `own`: shapes that reach further over the skin, lumps of
        any direction, another jaw, and a little of everything everywhere."""
        b, x = len(own), self.model.template
        loose = self.anchors(b)[..., None]
        gather, scatter = self.spreads[int(torch.randint(len(self.spreads), (1,), generator=self.rng))]
        share = (self.uniform(b, high=1.2) * self.chance(0.6, b))[:, None, None]
        out = share * loose * through(scatter, through(gather, own))
        spots, lumps = x[self.spots], torch.zeros(b, len(self.spots), 3)
        for _ in range(4):
            amplitude = self.logarithmic(b, 0.2 * MM, 8 * MM) * self.chance(0.2, b)
            centre = spots[torch.randint(len(spots), (b,), generator=self.rng)]
            radius = self.logarithmic(b, 0.015, 0.05)[:, None]
            bump = torch.exp(-0.5 * squares(spots, centre) / radius.square()) * amplitude[:, None]
            lumps = lumps + bump[..., None] * torch.nn.functional.normalize(self.normal_(b, 1, 3), dim=-1)
        out = out + loose * through(self.spreads[0][1], lumps)
        edge = self.uniform(b, 1, low=-0.05, high=0.0)
        below = torch.sigmoid((edge - x[:, 1]) / self.uniform(b, 1, low=0.003, high=0.012))
        below = below * torch.sigmoid((x[:, 2] - self.uniform(b, 1, low=-0.01, high=0.05)) / 0.012)
        turn = torch.tensor([1.0, 0.0, 0.0]) * self.uniform(b, 1, 1, low=-0.1, high=0.25) + 0.04 * self.normal_(b, 1, 3)
        swing = torch.linalg.cross(turn.expand(-1, len(x), -1), (x - self.jaw).expand(b, -1, -1))
        out = out + swing * (below * self.chance(0.12, b)[:, None])[..., None] * loose
        size = self.logarithmic(b, 0.02 * MM, 0.8 * MM) * self.chance(0.35, b)
        size = (size + own.square().sum(-1).mean(1).sqrt() * self.uniform(b, high=0.2) * self.chance(0.4, b))[:, None]
        weak = self.swell(b, 0.05, 0.25)
        return (out + weak * size[..., None] * loose) * self.skin[:, None]

    def sliding(self, change: Tensor) -> Tensor:
        """[b, v, 3] skin that slides over the skull: with the expression's change [b, 52], and on its own."""
        b, x, n = len(change), self.model.template, self.normals
        out = torch.zeros(b, len(x), 3)

        def tangential(d: Tensor) -> Tensor:
            return d - (d * n).sum(-1, keepdim=True) * n

        # the forehead with the brows: full above them, fading towards the crown, the temples and the nose
        up = change[:, self.brow_up].mean(1) - change[:, self.brow_down].mean(1)
        gain = self.uniform(b, high=8 * MM) * self.chance(0.5, b)
        bottom = self.uniform(b, 1, low=0.035, high=0.06)
        top = self.uniform(b, 1, low=0.07, high=0.16)
        soft = self.uniform(b, 1, low=0.004, high=0.012)
        width = self.uniform(b, 1, low=0.03, high=0.09)
        y, front = x[:, 1], torch.sigmoid((x[:, 2] - self.uniform(b, 1, low=-0.02, high=0.07)) / 0.012)
        fade = self.uniform(b, 1, low=0.01, high=0.04)
        mask = torch.sigmoid((y - bottom) / soft) * torch.sigmoid((top - y) / fade) * front
        mask = mask * torch.exp(-0.5 * (x[:, 0] / width).square().square())
        rise = torch.tensor([0.0, 1.0, -0.15]) + 0.15 * self.normal_(b, 1, 3)
        own = self.normal_(b) * 2.5 * MM * self.chance(0.35, b)
        out += ((up * gain + own)[:, None] * mask)[..., None] * tangential(rise)
        # cheeks and temples with mouth and jaw
        for side in (-1, 1):
            activity = 1.5 * change[:, self.smile].sum(1) - 1.5 * change[:, self.jaw_open]
            gain = self.uniform(b, high=2 * MM) * self.chance(0.4, b)
            centre = torch.tensor([side * 0.06, 0.02, 0.05]) + 0.02 * self.normal_(b, 3)
            radius = self.uniform(b, 1, low=0.015, high=0.04)
            bump = torch.exp(-0.5 * squares(x, centre) / radius.square())
            out += ((activity * gain)[:, None] * bump)[..., None] * tangential(torch.tensor([side * 0.3, 1.0, -0.5]))
        # anything, anywhere on the skin
        for _ in range(3):
            amplitude = self.logarithmic(b, 0.05 * MM, 4 * MM) * self.chance(0.3, b)
            centre = x[self.skin_index[torch.randint(len(self.skin_index), (b,), generator=self.rng)]]
            radius = self.logarithmic(b, 0.01, 0.05)[:, None]
            bump = torch.exp(-0.5 * squares(x, centre) / radius.square())
            d = tangential(torch.nn.functional.normalize(self.normal_(b, 1, 3), dim=-1))
            out += (amplitude[:, None] * bump)[..., None] * d
        return out * self.skin[:, None]

    def neck(self, b: int) -> Tensor:
        """[b, v, 3] a turn of the neck below a still head, for some."""
        weights = self.model.skinning_weights
        names = self.model.joint_names
        share = (weights[:, names.index("root")] + weights[:, names.index("neck")]) * self.skin
        turn = 0.12 * self.normal_(b, 1, 3) * self.chance(0.35, b)[:, None, None]
        pivot = self.model.joint_template[names.index("head")]
        return torch.linalg.cross(turn.expand(-1, len(share), -1), (self.model.template - pivot).expand(b, -1, -1)
                                  ) * share[:, None]  # fmt: skip

    # -- what is seen -------------------------------------------------------------------------------------------

    def coverage(self, b: int) -> Tensor:
        """[b, f] how densely each face is sampled; zero where nothing is seen."""
        c = self.face_centre
        density = self.area * torch.exp(self.waves(c, b, 0.05, 0.25) * self.uniform(b, 1, high=0.8))
        front = 1 + self.uniform(b, 1, high=4) * torch.sigmoid((c[:, 2] - 0.04) / 0.01) * self.chance(0.5, b)[:, None]
        density = density * front
        seen = torch.ones_like(density, dtype=torch.bool)
        kind = torch.multinomial(torch.tensor([0.34, 0.36, 0.30]), b, replacement=True, generator=self.rng)[:, None]
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
        size = self.uniform(b, len(model.expression_names), low=0.6, high=1.3)  # other people's smiles
        own_a, own_b = torch.zeros_like(base), torch.zeros_like(base)
        for half in self.halves:
            basis = model.expression_basis[half].flatten(1)
            vary = self.uniform(b, 1, high=0.5) * self.waves(model.template, b, 0.06, 0.2)
            factor = (scale * size)[:, half]
            for own, at in ((own_a, before), (own_b, after)):
                own += ((at[:, half] * factor) @ basis).view(b, -1, 3) * (1 + vary)[..., None]
        own = own_b - own_a
        own = own + self.elsewhere(own) * self.chance(0.55, b)[:, None, None]
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
