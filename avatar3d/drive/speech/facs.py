"""Facial action units in ARKit terms, and the action units of the basic emotions.

After Ekman and Friesen's Facial Action Coding System (1978) and EMFACS. Both tables are printed in docs/speech.md and
held by a test: what an emotion moves, and in which direction.
"""

from avatar3d.types import ARKIT_INDEX

_BOTH = ("Left", "Right")


def _sides(name: str, value: float) -> dict[str, float]:
    return {f"{name}{side}": value for side in _BOTH}


ACTION_UNITS: dict[str, tuple[str, dict[str, float]]] = {
    "AU1": ("inner brow raiser", {"browInnerUp": 1.0}),
    "AU2": ("outer brow raiser", _sides("browOuterUp", 1.0)),
    "AU4": ("brow lowerer", _sides("browDown", 1.0)),
    "AU5": ("upper lid raiser", _sides("eyeWide", 1.0)),
    "AU6": ("cheek raiser", _sides("cheekSquint", 1.0) | _sides("eyeSquint", 0.35)),
    "AU7": ("lid tightener", _sides("eyeSquint", 1.0)),
    "AU9": ("nose wrinkler", _sides("noseSneer", 1.0) | _sides("browDown", 0.25)),
    "AU10": ("upper lip raiser", _sides("mouthUpperUp", 1.0)),
    "AU12": ("lip corner puller", _sides("mouthSmile", 1.0)),
    "AU14": ("dimpler", _sides("mouthDimple", 1.0)),
    "AU15": ("lip corner depressor", _sides("mouthFrown", 1.0)),
    "AU16": ("lower lip depressor", _sides("mouthLowerDown", 1.0)),
    "AU17": ("chin raiser", {"mouthShrugLower": 1.0}),
    "AU18": ("lip pucker", {"mouthPucker": 1.0}),
    "AU20": ("lip stretcher", _sides("mouthStretch", 1.0)),
    "AU22": ("lip funneler", {"mouthFunnel": 1.0}),
    "AU23": ("lip tightener", _sides("mouthPress", 0.3) | {"mouthRollUpper": 0.5, "mouthRollLower": 0.5}),
    "AU24": ("lip presser", _sides("mouthPress", 1.0)),
    "AU26": ("jaw drop", {"jawOpen": 0.5}),
    "AU27": ("mouth stretch", {"jawOpen": 1.0}),
    "AU28": ("lip suck", {"mouthRollUpper": 1.0, "mouthRollLower": 1.0}),
    "AU29": ("jaw thrust", {"jawForward": 1.0}),
    "AU34": ("cheek puff", {"cheekPuff": 1.0}),
    "AU38": ("nostril dilator", _sides("noseSneer", 0.2)),
    "AU43": ("lid droop", _sides("eyeBlink", 1.0)),
    "L12": ("left lip corner puller", {"mouthSmileLeft": 1.0}),
    "R12": ("right lip corner puller", {"mouthSmileRight": 1.0}),
    "L14": ("left dimpler", {"mouthDimpleLeft": 1.0}),
    "R14": ("right dimpler", {"mouthDimpleRight": 1.0}),
    "L2": ("left outer brow raiser", {"browOuterUpLeft": 1.0}),
    "R2": ("right outer brow raiser", {"browOuterUpRight": 1.0}),
}
"""Action unit -> its name and its ARKit coefficients at full strength. L and R are the subject's."""

EMOTION_UNITS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {"AU6": 0.7, "AU12": 0.8},
    "sad": {"AU1": 0.8, "AU4": 0.4, "AU15": 0.7, "AU17": 0.2, "AU43": 0.12},
    "angry": {"AU4": 1.0, "AU5": 0.4, "AU7": 0.5, "AU15": 0.15, "AU17": 0.3, "AU23": 0.6, "AU38": 0.6},
    "surprised": {"AU1": 0.9, "AU2": 0.9, "AU5": 0.7, "AU26": 0.5},
    "fearful": {"AU1": 0.9, "AU2": 0.4, "AU4": 0.4, "AU5": 0.9, "AU7": 0.25, "AU20": 0.6, "AU26": 0.3},
    "disgusted": {"AU9": 0.9, "AU10": 0.3, "AU15": 0.4, "AU16": 0.3, "AU7": 0.2},
    "contempt": {"R12": 0.45, "R14": 0.8, "R2": 0.25},
}
"""Emotion -> action units at intensity 1: EMFACS's prototypes. Contempt has one side alone, the subject's right."""

HEAD_POSES: dict[str, tuple[float, float, float]] = {
    "happy": (-0.02, 0.0, -0.03),
    "sad": (0.10, 0.02, -0.03),
    "angry": (0.05, 0.0, 0.0),
    "surprised": (-0.05, 0.0, 0.0),
    "fearful": (-0.03, 0.04, 0.0),
    "disgusted": (-0.03, -0.06, 0.02),
    "contempt": (-0.06, 0.03, 0.03),
}
"""Emotion -> rotation vector of the head at intensity 1, radians: sad lowers the face, contempt looks down the nose."""

MOVEMENT: dict[str, float] = {"happy": 1.2, "sad": 0.6, "angry": 1.35, "surprised": 1.2, "fearful": 1.1,
                              "disgusted": 0.9, "contempt": 0.75}  # fmt: skip
"""Emotion -> how much the head moves, beside 1 in neutral speech."""


def units_to_shapes(units: dict[str, float]) -> dict[str, float]:
    """ARKit coefficients of action units with their strengths, summed and held within 0..1.

    Raises:
        ValueError: an action unit that is not in `ACTION_UNITS`.
    """
    shapes: dict[str, float] = {}
    for unit, strength in units.items():
        if unit not in ACTION_UNITS:
            raise ValueError(f"No action unit {unit!r}; there are {', '.join(ACTION_UNITS)}.")
        for name, value in ACTION_UNITS[unit][1].items():
            assert name in ARKIT_INDEX
            shapes[name] = shapes.get(name, 0.0) + strength * value
    return {name: min(1.0, max(0.0, value)) for name, value in shapes.items()}
