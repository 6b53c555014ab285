"""The options of commands that take sound or text."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from avatar3d import pipeline


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """For sound and text: how it is said and acted (docs/speech.md)."""

    emotion: str = "neutral"
    """happy:0.7, or a mixture happy:0.7,surprised:0.3, of happy, sad, angry, surprised, fearful, disgusted, contempt;
    va:VALENCE,AROUSAL; or auto, from the voice."""
    intensity: float = 1.0
    """Scales the emotion."""
    description: str = ""
    """In words: "wearily, with a forced smile"."""
    style: Path | None = None
    """Whose habits to take on: a clip of some ten seconds of them speaking, or a .style file."""
    save_style: Path | None = None
    """Write the habits that were found in a clip to a .style file."""
    edits: Path | None = None
    """JSON with keyframes and regions that you fix; the rest is filled in."""
    listen: bool = False
    """The sound is someone else's: the avatar listens."""
    seed: int = 0
    """Another seed, other nods, blinks and glances; the same seed, the same motion."""
    language: str = "en"
    """Of a text: a code that espeak-ng knows (en, de, fr, es, ru, zh, ja, ...)."""
    voice: str = "auto"
    """Of a text: auto, espeak-ng[:VARIANT], flite[:NAME], piper:NAME."""
    speed: float = 1.0
    """Of a text's voice."""
    pitch: float = 1.0
    """Of a text's voice."""
    hear: Literal["network", "recogniser"] = "network"
    """What hears a sound: our networks, in any language, or with a recogniser of English phones (extra `speech`)."""
    words: str | None = None
    """What a sound says, in English, where you know it: followed most closely (extra `speech`)."""
    mouth: float = 1.0
    """Gain of the mouth; 0 switches a part off, 1 is ordinary, up to 4."""
    head: float = 1.0
    """Gain of head motion."""
    blinks: float = 1.0
    """Gain of the rate of blinks."""
    gaze: float = 1.0
    """Gain of glances."""
    brows: float = 1.0
    """Gain of the brows."""
    breathing: float = 1.0
    """Gain of breathing."""
    nonspeech: float = 1.0
    """Gain of laughs and sighs."""

    def request(self) -> "pipeline.SpeechRequest":
        """What the pipeline takes.

        Raises:
            ValueError: a gain out of range, or an unknown emotion.
        """
        from avatar3d.drive.speech.settings import SpeechSettings

        shared = {f.name for f in fields(SpeechSettings)} & {f.name for f in fields(self)} - {"style"}
        settings = SpeechSettings(
            **{name: getattr(self, name) for name in shared}, role="listener" if self.listen else "speaker"
        )
        return pipeline.SpeechRequest(settings=settings, style=self.style, edits=self.edits, language=self.language,
                                      voice=self.voice, speed=self.speed, pitch=self.pitch, hear=self.hear,
                                      words=self.words)  # fmt: skip

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the options that differ from their defaults."""
        return tuple(f"--{f.name.replace('_', '-')}" for f in fields(self) if getattr(self, f.name) != f.default)
