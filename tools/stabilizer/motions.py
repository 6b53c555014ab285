"""How skin moves on people and on other generators of heads: expressions, skin that slides, shapes that leak."""

from fnmatch import fnmatchcase
from math import log

import torch
from torch import Tensor

from avatar3d.geometry.surface import vertex_normals
from avatar3d.models.linear import LinearModel

MM = 1e-3
INSIDE = ("teeth_upper", "gums_upper", "teeth_lower", "gums_lower", "tongue", "mouth_cavity", "eye_socket_left",
          "eye_socket_right")  # fmt: skip
BALLS = ("eyeball_left", "eyeball_right", "lacrimal_left", "lacrimal_right")
PLACES = {
    "brow*Left": (0.032, 0.055, 0.1), "brow*Right": (-0.032, 0.055, 0.1), "browInner*": (0.0, 0.045, 0.11),
    "eye*Left": (0.032, 0.035, 0.09), "eye*Right": (-0.032, 0.035, 0.09), "noseSneer*": (0.0, 0.02, 0.115),
    "cheekSquintLeft": (0.045, 0.005, 0.085), "cheekSquintRight": (-0.045, 0.005, 0.085),
    "cheekPuff": (0.0, -0.02, 0.09), "mouth*Left": (0.03, -0.03, 0.1), "mouth*Right": (-0.03, -0.03, 0.1),
    "mouth[FP]u*e[lr]": (0.0, -0.03, 0.11), "mouth*per": (0.0, -0.025, 0.11), "jaw*": (0.0, -0.06, 0.08),
}  # fmt: skip
"""Where on the mean head, metres, shapes whose names match a pattern pull."""


def squares(points: Tensor, centres: Tensor) -> Tensor:
    """[b, v] squared distances of [v, 3] points from [b, 3] centres."""
    return (points.square().sum(1) - 2 * centres @ points.mT + centres.square().sum(1)[:, None]).clamp_min(0)


def through(matrix: Tensor, field: Tensor) -> Tensor:
    """[b, w, 3] of [w, v] and [b, v, 3]; one product of matrices, which is several times faster than a batch of thin
    ones."""
    b, v, c = field.shape
    return (matrix @ field.transpose(0, 1).reshape(v, b * c)).view(-1, b, c).transpose(0, 1)


class Motions:
    """Draws motions of the head model's skin."""

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
        self.pulls = torch.tensor([[float(fnmatchcase(n, p)) for p in PLACES] for n in names])
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
        # a little of everything, as recordings have it
        out = out + self.uniform(b, e).pow(4) * (self.logarithmic(b, 0.1, 1.0) * self.chance(0.35, b))[:, None]
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

    def leaks(self, change: Tensor) -> Tensor:
        """[b, v, 3] motion as sculpted rigs have it: every shape moves a wide neighbourhood, and all else a little.

        About where the shapes pull, skin moves with them in some smooth direction, and less with the distance by a
        power that leaves nothing still. For two thirds of the pairs some of it is held by the skull.
        """
        b, spots = len(change), self.model.template[self.spots]
        active = change.abs() @ self.pulls  # [b, places]
        out = torch.zeros(b, len(spots), 3)
        for k, place in enumerate(torch.tensor(list(PLACES.values()))):
            centre = place + 0.008 * self.normal_(b, 3)
            reach = self.logarithmic(b, 0.008, 0.04)[:, None].square()
            tail = (1 + squares(spots, centre) / reach).pow(-self.uniform(b, 1, low=0.7, high=1.8))
            gain = self.logarithmic(b, 0.3 * MM, 6 * MM) * self.chance(0.75, b) * active[:, k].clamp(max=2)
            way = torch.nn.functional.normalize(self.normal_(b, 1, 3), dim=-1)
            if k % 3 == 0:
                bend = torch.stack([self.waves(spots, b, 0.06, 0.25) for _ in range(3)], -1)
            out = out + (tail * gain[:, None])[..., None] * (way + 0.6 * bend)
        hold = self.chance(0.65, b)[:, None]
        loose = torch.where(hold, self.anchors(b), 1.0)
        return through(self.spreads[0][1], out) * (loose * self.skin)[..., None]

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
