"""Head motion with speech: drift, posture, nods on stress, a lowering at the end of phrases.

Rhythm and size follow what is known of speakers: the head moves with loudness and pitch (Munhall and others 2004), nods
of 2 to 5 degrees mark accents within about 100 ms, and posture changes between phrases.
"""

import numpy as np

from avatar3d.drive.speech.cues import Cue
from avatar3d.drive.speech.motion_shapes import ROW, Noise, Pulses, Spring
from avatar3d.drive.speech.prosody import ProsodyRow
from avatar3d.drive.speech.style import Style

NOD_LEAD = 0.16
"""Seconds from the start of a nod to its lowest point: an accent that is known so much ahead is met exactly."""
_IDLE, _LISTENING = 0.4, 0.5
_DEGREE = np.pi / 180


class HeadMotion:
    """Rotation vectors of the head: pitch (down), yaw (to the subject's left), roll (top to the subject's right)."""

    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        self._rng, self._style = rng, style
        self._size = np.array([style.pitch, style.yaw, style.roll])
        self._posture, self._drift = np.zeros(3), Noise(rng, 0.9 / style.pace, 3)
        self._posture_spring, self._spring = Spring(0.45 * style.pace, 3), Spring(1.5 * style.pace, 3)
        self._pulses = Pulses(3)
        self._activity = 0.0
        self._lowering = Spring(0.6, 1)
        self._beat = Spring(2.5, 1)
        self._lowered = 0.0
        self._next_posture = 0
        self._said = 0

    def step(
        self, row: int, voice: ProsodyRow, *, listening: bool, movement: float, follow: np.ndarray, cues: list[Cue]
    ) -> np.ndarray:
        """The rotation vector of this row, radians.

        Args:
            row: Its number.
            voice: What is heard.
            listening: Whether the avatar listens to that.
            movement: Liveliness, 1 in neutral speech.
            follow: Rotation that the head owes to the gaze.
            cues: What begins at this row.
        """
        speaks = voice.speaking and not listening
        self._activity += ((1.0 if speaks else 0.0) - self._activity) * (ROW / 0.4)
        rest = _LISTENING if listening else _IDLE
        amount = movement * (rest + (1 - rest) * self._activity)
        self._postures(row, voice)
        drift = self._posture_spring.step(self._posture) * 0.75 + self._drift.step() * 0.65
        slow = self._spring.step(drift * self._size * amount + follow)
        if speaks:
            self._said += 1
            if voice.accent > 0:
                self._accent(row, voice.accent, movement)
        if voice.ends:
            self._phrase_end(row, listening, movement)
        if voice.starts:
            self._lowered, self._said = 0.0, 0
        for cue in cues:
            self._act(row, cue)
        lowered = self._lowering.step(self._lowered * (0.6 if voice.pause > 1.5 else 1.0))[0]
        # The head also rises and falls a little with the loudness of each syllable.
        beat = self._beat.step(0.7 * _DEGREE * movement * (voice.loudness - 0.5) if speaks else 0.0)[0]
        out = slow + self._pulses.step(row)
        out[0] += lowered + beat
        return out

    def _postures(self, row: int, voice: ProsodyRow) -> None:
        """A new posture every few seconds, mostly between phrases."""
        due = row >= self._next_posture
        if due or (voice.ends and self._rng.random() < 0.5):
            self._posture = self._rng.standard_normal(3).clip(-2, 2)
            self._next_posture = row + round(self._rng.lognormal(np.log(4.0), 0.5) / ROW)

    def _accent(self, row: int, strength: float, movement: float) -> None:
        if self._rng.random() > 0.45 + 0.5 * strength:
            return
        habit = (self._style.pitch / Style().pitch) ** 0.5
        pitch = self._rng.uniform(1.5, 4.0) * (0.5 + strength) * movement * habit * _DEGREE
        if self._rng.random() < 0.15:
            pitch *= -0.7  # some beats go up
        turn = self._rng.normal(0, 0.35) * abs(pitch)
        tilt = self._rng.normal(0, 0.25) * abs(pitch)
        fall = self._rng.uniform(0.22, 0.38)
        self._pulses.add(row, NOD_LEAD, 0.02, fall, np.array([pitch, turn, tilt]))

    def _phrase_end(self, row: int, listening: bool, movement: float) -> None:
        if listening:
            if self._rng.random() < 0.6:  # a listener nods when the other pauses
                self._nod(row + round(self._rng.uniform(0.1, 0.4) / ROW), int(self._rng.integers(1, 4)), 0.8)
        elif self._said * ROW > 0.8:
            self._lowered = self._rng.uniform(0.3, 2.0) * movement * _DEGREE

    def _nod(self, row: int, times: int, amount: float) -> None:
        for i in range(times):
            size = amount * (5.0 - 1.2 * i) * _DEGREE * self._rng.uniform(0.8, 1.2)
            self._pulses.add(row + round(i * 0.42 / ROW), 0.18, 0.02, 0.24, np.array([size, 0.0, 0.0]))

    def _act(self, row: int, cue: Cue) -> None:
        if cue.kind == "nod":
            self._nod(row, 2, 1.3 * cue.amount)
        elif cue.kind == "shake":
            for i in range(4):
                size = (6.0 - 1.0 * i) * cue.amount * _DEGREE * (-1) ** i
                self._pulses.add(row + round(i * 0.22 / ROW), 0.16, 0.0, 0.22, np.array([0.0, size, 0.0]))
        elif cue.kind == "tilt":
            side = -1.0 if cue.value != "right" else 1.0
            hold = cue.duration or 1.2
            self._pulses.add(row, 0.35, hold, 0.5, np.array([0.0, 0.0, side * 7.0 * cue.amount * _DEGREE]))
