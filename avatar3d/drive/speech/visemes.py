"""What each articulation looks like, in ARKit terms: targets, and how much each of them matters.

A viseme gives targets for the curves it cares about, with a weight per group of curves (0 indifferent .. 1 decided,
more where sound depends on it). What a consonant does not decide, its neighbours do: that is co-articulation.
Amplitudes are those of conversation (jaw opening up to a third of the range), not of cartoons, and were set by looking
at the default head model.
"""

from dataclasses import dataclass, field

from avatar3d.drive.speech.phones import Articulation

GROUPS: dict[str, tuple[str, ...]] = {
    "jaw": ("jawOpen", "jawForward"),
    "round": ("mouthPucker", "mouthFunnel"),
    "spread": ("mouthStretchLeft", "mouthStretchRight", "mouthSmileLeft", "mouthSmileRight",
               "mouthDimpleLeft", "mouthDimpleRight"),
    "upper": ("mouthUpperUpLeft", "mouthUpperUpRight", "mouthShrugUpper"),
    "lower": ("mouthLowerDownLeft", "mouthLowerDownRight", "mouthShrugLower"),
    "lips": ("mouthRollLower", "mouthRollUpper", "mouthPressLeft", "mouthPressRight"),
    "cheek": ("cheekPuff",),
    "tongue": ("tongueOut",),
}  # fmt: skip
"""Curves that move together: same dynamics, same weight."""


@dataclass(frozen=True)
class Viseme:
    """Targets of one articulation."""

    targets: dict[str, float]
    """Curve -> coefficient; a name without side (`mouthUpperUp`) means both; curves not named are 0."""
    weights: dict[str, float] = field(default_factory=dict)
    """Group -> weight; `_WEIGHT` where not named."""

    def target(self, curve: str) -> float:
        """The coefficient that this viseme wants for a curve."""
        plain = curve.removesuffix("Left").removesuffix("Right")
        return self.targets.get(curve, self.targets.get(plain, 0.0))

    def weight(self, group: str) -> float:
        """How much it cares."""
        return self.weights.get(group, _WEIGHT)


_WEIGHT = 0.25

_CONSONANTS: dict[str, Viseme] = {
    "silence": Viseme({}, dict.fromkeys(GROUPS, 0.3)),
    "bilabial": Viseme(
        {"jawOpen": 0.05, "mouthPress": 0.2, "mouthRollLower": 0.12, "mouthRollUpper": 0.08, "cheekPuff": 0.02},
        {"jaw": 0.8, "lips": 2.0, "upper": 1.0, "lower": 1.0, "round": 0.08, "spread": 0.1},
    ),
    "bilabial_fricative": Viseme(
        {"jawOpen": 0.06, "mouthPress": 0.1}, {"jaw": 0.7, "lips": 1.0, "upper": 0.8, "lower": 0.8, "round": 0.15}
    ),
    "labiodental": Viseme(
        {"jawOpen": 0.04, "mouthRollLower": 0.5, "mouthUpperUp": 0.25, "mouthShrugUpper": 0.08},
        {"jaw": 0.9, "lips": 2.0, "upper": 1.5, "lower": 1.2, "round": 0.15, "spread": 0.15},
    ),
    "dental": Viseme(
        {"jawOpen": 0.07, "tongueOut": 0.4, "mouthUpperUp": 0.08, "mouthLowerDown": 0.18},
        {"jaw": 0.6, "tongue": 2.0, "round": 0.12, "spread": 0.15, "lower": 0.6},
    ),
    "alveolar": Viseme(
        {"jawOpen": 0.1, "mouthUpperUp": 0.1, "mouthLowerDown": 0.26, "mouthStretch": 0.06},
        {"jaw": 0.35, "round": 0.05, "spread": 0.1, "lower": 0.4},
    ),
    "sibilant": Viseme(
        {"jawOpen": 0.06, "mouthUpperUp": 0.15, "mouthLowerDown": 0.42, "mouthStretch": 0.15, "jawForward": 0.03},
        {"jaw": 0.8, "round": 0.08, "spread": 0.25, "lower": 0.8, "upper": 0.4},
    ),
    "lateral": Viseme(
        {"jawOpen": 0.11, "mouthUpperUp": 0.06, "mouthLowerDown": 0.2},
        {"jaw": 0.35, "round": 0.05, "spread": 0.1, "lower": 0.3},
    ),
    "rhotic": Viseme(
        {"jawOpen": 0.09, "mouthPucker": 0.25, "mouthFunnel": 0.16, "mouthLowerDown": 0.1},
        {"jaw": 0.4, "round": 0.45, "spread": 0.3},
    ),
    "postalveolar": Viseme(
        {"jawOpen": 0.05, "mouthFunnel": 0.38, "mouthPucker": 0.28, "mouthShrugUpper": 0.08, "mouthLowerDown": 0.2},
        {"jaw": 0.8, "round": 0.9, "spread": 0.5, "lower": 0.4},
    ),
    "palatal": Viseme(
        {"jawOpen": 0.09, "mouthStretch": 0.14, "mouthSmile": 0.06, "mouthLowerDown": 0.26, "mouthUpperUp": 0.1},
        {"jaw": 0.4, "round": 0.12, "spread": 0.3, "lower": 0.3},
    ),
    "velar": Viseme(
        {"jawOpen": 0.13, "mouthLowerDown": 0.18, "mouthUpperUp": 0.06}, {"jaw": 0.25, "round": 0.04, "spread": 0.06}
    ),
    "uvular": Viseme(
        {"jawOpen": 0.13, "mouthLowerDown": 0.16, "mouthUpperUp": 0.05}, {"jaw": 0.2, "round": 0.04, "spread": 0.06}
    ),
    "glottal": Viseme(
        {"jawOpen": 0.14, "mouthLowerDown": 0.15},
        {"jaw": 0.06, "round": 0.02, "spread": 0.03, "upper": 0.05, "lower": 0.05, "lips": 0.1},
    ),
    "labiovelar": Viseme(
        {"jawOpen": 0.055, "mouthPucker": 0.7, "mouthFunnel": 0.14},
        {"jaw": 2.0, "round": 1.8, "spread": 1.0, "lower": 2.0, "upper": 2.0},
    ),
}


def viseme(articulation: Articulation) -> Viseme:
    """The viseme of an articulation."""
    if articulation.place == "vowel":
        return _vowel(articulation)
    base = _CONSONANTS[articulation.place]
    extra = articulation.rounding
    if extra == 0 or articulation.place in ("labiovelar", "rhotic", "postalveolar"):
        return base
    return Viseme(
        {**base.targets, "mouthPucker": 0.6 * extra, "mouthFunnel": 0.15 * extra}, {**base.weights, "round": extra}
    )


def _vowel(a: Articulation) -> Viseme:
    """Height opens the jaw, front spreads, rounding protrudes (closed: pucker, open: funnel)."""
    openness = 1 - a.height
    spread = (0.3 + 0.7 * a.front) * (1 - a.rounding) * (0.35 + 0.65 * a.height)
    r = a.rounding
    return Viseme(
        {
            "jawOpen": 0.09 + (0.26 - 0.2 * r) * openness**1.1 * (0.75 + 0.35 * a.front),
            "mouthPucker": r * (0.22 + 0.54 * a.height),
            "mouthFunnel": r * (0.42 - 0.26 * a.height),
            "mouthStretch": 0.22 * spread,
            "mouthSmile": 0.14 * spread,
            "mouthUpperUp": (0.08 + 0.1 * openness) * (1 - r),
            "mouthLowerDown": (0.16 + 0.22 * spread + 0.16 * openness) * (1 - 0.8 * r),
        },
        {
            "jaw": 0.5 + 0.6 * abs(openness - 0.4),
            "round": 0.6 + 0.6 * r,
            "spread": 0.6,
            "upper": 0.5,
            "lower": 0.5,
            "lips": 0.6,
            "tongue": 0.5,
        },
    )
