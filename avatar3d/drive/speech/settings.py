"""How speech is acted: everything that is on top of articulation, each with its own gain."""

from dataclasses import dataclass, fields
from typing import Literal

from avatar3d.drive.speech.style import Style
from avatar3d.errors import UsageError

_GAINS = ("mouth", "head", "blinks", "gaze", "brows", "breathing", "nonspeech")


@dataclass(frozen=True, kw_only=True)
class SpeechSettings:
    """How speech is acted. A gain of 0 switches a behaviour off, 1 is ordinary, 2 twice as much."""

    emotion: str = "neutral"
    """Label and intensity, several as a mixture: "happy:0.7,surprised:0.3". Labels: neutral, happy, sad, angry,
    surprised, fearful, disgusted, contempt. Or valence and arousal, -1..1: "va:0.6,-0.2". Or "auto", from the voice."""
    intensity: float = 1.0
    """Scales the emotion."""
    description: str = ""
    """In words: "wearily, with a forced smile"; a table turns known words into action units."""
    style: Style | None = None
    """Habits of a person, as `learn_style` finds them in a clip."""
    role: Literal["speaker", "listener"] = "speaker"
    """Whether the sound is the avatar's own, or that of someone whom the avatar listens to."""
    seed: int = 0
    """The same seed gives the same motion; another seed other nods, blinks and glances."""
    mouth: float = 1.0
    """How far the mouth moves."""
    head: float = 1.0
    """Head motion: drift, nods on stress, posture."""
    blinks: float = 1.0
    """Rate of blinks; 1 is about 17 a minute."""
    gaze: float = 1.0
    """How far and how often the eyes leave the camera; eyes always make up for what the head does, except at 0."""
    brows: float = 1.0
    """Brows on accents."""
    breathing: float = 1.0
    """Chest and nostrils."""
    nonspeech: float = 1.0
    """Acting of laughter and sighs."""

    def __post_init__(self) -> None:
        for name in ("intensity", *_GAINS):
            value = getattr(self, name)
            if not 0 <= value <= 4:
                raise UsageError(f"SpeechSettings: {name}={value:g}; expected 0 (off) to 4.")
        from avatar3d.drive.speech.emotion import parse_emotion

        parse_emotion(self.emotion)

    @property
    def gains(self) -> dict[str, float]:
        """All gains by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name in _GAINS}
