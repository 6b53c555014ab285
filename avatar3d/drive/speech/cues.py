"""What the avatar is told to do at a time: by markup in a text, or by a caller."""

from dataclasses import dataclass

CUE_KINDS = (
    "emotion", "look", "nod", "shake", "tilt", "blink", "wink", "brows", "frown", "laugh", "sigh", "listen", "speak",
)  # fmt: skip
DIRECTIONS: dict[str, tuple[float, float]] = {
    "camera": (0.0, 0.0), "left": (0.35, 0.0), "right": (-0.35, 0.0), "up": (0.0, 0.28), "down": (0.0, -0.3),
    "away": (0.22, -0.12),
}  # fmt: skip
"""Where a look goes: radians to the subject's left, and up."""


@dataclass(frozen=True, kw_only=True)
class Cue:
    """One thing to do."""

    time: float
    """Seconds."""
    kind: str
    """One of `CUE_KINDS`."""
    value: str = ""
    """`emotion`: a mixture, as in `SpeechSettings.emotion`; `look`, `tilt`: a direction; `wink`: a side."""
    amount: float = 1.0
    """Strength, 1 is ordinary."""
    duration: float | None = None
    """Seconds; what is usual when left out."""

    def __post_init__(self) -> None:
        if self.kind not in CUE_KINDS:
            raise ValueError(f"Cue {self.kind!r} is unknown; there are {', '.join(CUE_KINDS)}.")
        if self.kind == "look" and self.value not in DIRECTIONS:
            raise ValueError(f"Look {self.value!r}: expected {', '.join(DIRECTIONS)}.")
        if self.kind in ("tilt", "wink") and self.value not in ("", "left", "right"):
            raise ValueError(f"{self.kind.capitalize()} {self.value!r}: expected left or right.")
        if self.time < 0 or not 0 <= self.amount <= 4 or (self.duration is not None and self.duration <= 0):
            raise ValueError(f"Cue {self.kind!r} at {self.time:g} s: amount {self.amount:g}, lasting {self.duration}; "
                             "expected a time from 0 on, an amount of 0..4 and a positive duration.")  # fmt: skip
