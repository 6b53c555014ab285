"""Articulation and sound in, a whole face and head out, row by row: the same rows however the input is cut."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.acts import Act
from avatar3d.drive.speech.blinks import Blinks
from avatar3d.drive.speech.closure import close_lips, lip_gap, open_lips, touch_teeth
from avatar3d.drive.speech.cues import Cue
from avatar3d.drive.speech.description import describe
from avatar3d.drive.speech.emotion import HeardEmotion, expression_of, parse_emotion
from avatar3d.drive.speech.gaze import Gaze, eye_shapes
from avatar3d.drive.speech.head_motion import HeadMotion
from avatar3d.drive.speech.motion_shapes import ROW, Noise
from avatar3d.drive.speech.nonspeech import HEAR_AHEAD, NonSpeech
from avatar3d.drive.speech.prosody import LOOKAHEAD_ROWS, SILENT_ROW, ProsodyRow, ProsodyStream
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.drive.speech.style import Style
from avatar3d.drive.speech.upper_face import BROW_SHAPES, Breathing, Brows
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES
from avatar3d.typing import typed

OFFLINE_AHEAD = 8
"""Rows by which behaviour knows the sound ahead of itself, so that a nod is lowest on its accent."""
STREAM_AHEAD = -LOOKAHEAD_ROWS
"""Behaviour that lags the sound by what prosody needs, so that nothing waits for it."""
_LIFT = 0.002
_CHEST_PITCH = -0.009
_MOUTH = tuple(i for i, n in enumerate(ARKIT_NAMES) if n.startswith(("jaw", "mouth", "cheekPuff", "tongue")))
_SIDES = tuple(
    (ARKIT_INDEX[n], ARKIT_INDEX[n[:-4] + "Right"]) for n in ARKIT_NAMES if n.startswith("mouth") and n.endswith("Left")
    and n != "mouthLeft"
)  # fmt: skip
_JAW, _PUCKER, _FUNNEL = ARKIT_INDEX["jawOpen"], ARKIT_INDEX["mouthPucker"], ARKIT_INDEX["mouthFunnel"]
_OPENERS = frozenset(
    ARKIT_INDEX[n] for n in ("jawOpen", "mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft",
                             "mouthLowerDownRight", "mouthFunnel")
)  # fmt: skip
_SPREADERS = frozenset(
    i for n, i in ARKIT_INDEX.items() if n.startswith(("mouthSmile", "mouthFrown", "mouthStretch", "mouthDimple"))
)
_PRESSERS = frozenset(
    i for n, i in ARKIT_INDEX.items() if n.startswith(("mouthPress", "mouthRoll", "mouthShrug", "mouthClose"))
)


@dataclass(frozen=True)
class Performed:
    """Rows of a performance, `RATE` a second."""

    expression: Float[Tensor, "t 52"]
    head: Float[Tensor, "t 3"]
    """Rotation vector of head and neck together."""
    translation: Float[Tensor, "t 3"]
    """Of the root, metres: breath lifts the shoulders."""


class Performer:
    """Adds emotion, head, blinks, gaze, brows and breath to articulation; memory does not grow with time."""

    def __init__(
        self, settings: SpeechSettings | None = None, *, cues: Sequence[Cue] = (), ahead: int = OFFLINE_AHEAD
    ) -> None:
        """Starts a performance at time 0.

        Args:
            settings: How speech is acted.
            cues: What to do at which time.
            ahead: Rows by which behaviour knows the sound ahead of the mouth; negative where it may lag it.
        """
        self.settings = settings or SpeechSettings()
        s = self.settings
        style = s.style or Style()
        words = describe(s.description)
        self._style = replace(style, pace=min(4.0, max(0.2, style.pace * words.pace)))
        self._units, self._lean = words.units, np.array(words.pose)
        self._movement = words.movement
        seeds = [np.random.default_rng([s.seed & 0xFFFFFFFF, k]) for k in range(6)]
        self._head, self._blinks = HeadMotion(seeds[0], self._style), Blinks(seeds[1], self._style, s.blinks)
        self._gaze, self._brows = Gaze(seeds[2], s.gaze), Brows(seeds[3], self._style, s.brows)
        self._breath, self._mood_noise = Breathing(seeds[4]), Noise(seeds[5], 2.0, 1)
        self._heard = HeardEmotion() if parse_emotion(s.emotion) is None else None
        self._mixture = parse_emotion(s.emotion) or {}
        self._target = self._target_of(self._mixture)
        # A face begins in its mood; later moods arrive within half a second.
        self._mood, self._mood_pose, self._mood_movement = (np.array(x) for x in self._target)
        self._listening = s.role == "listener"
        self._cues = sorted(cues, key=lambda cue: cue.time)
        self._cue = 0
        self._acts: list[Act] = []
        self._ahead = ahead
        self._hear_ahead = HEAR_AHEAD if ahead > 0 else ahead
        self._nonspeech, self._heard_rows = NonSpeech(), 0
        self._prosody = ProsodyStream()
        self._voices: list[ProsodyRow] = []
        self._first_voice = 0
        self._ended = False
        self._row = 0
        self._talking, self._flare = 0.0, 1.0
        self._waiting: list[tuple[Tensor, Tensor | None, Tensor | None]] = []

    @property
    def rows(self) -> int:
        """Rows that have come out."""
        return self._row

    @typed
    def push(
        self,
        mouth: Float[Tensor, "n 52"],
        samples: Float[Tensor, "m"],
        closed: Float[Tensor, "n"] | None = None,
        touching: Float[Tensor, "n"] | None = None,
    ) -> Performed:
        """More articulation and more sound; what is complete comes out.

        Args:
            mouth: ARKit coefficients of lips, jaw, cheeks and tongue, `RATE` rows a second.
            samples: Mono sound at 16 kHz; need not reach as far as `mouth`.
            closed: 0 free .. 1 where lips must meet; taken from `mouth` itself when left out.
            touching: 0 free .. 1 where the lower lip must touch the upper teeth.
        """
        if len(samples):
            self._voices += self._prosody.push(samples.detach().cpu().numpy())
        if len(mouth):
            self._waiting.append((mouth, closed, touching))
        return self._complete()

    @typed
    def flush(self) -> Performed:
        """The rest: behaviour sees silence after the sound."""
        self._voices += self._prosody.flush()
        self._ended = True
        return self._complete()

    def _complete(self) -> Performed:
        known = self._first_voice + len(self._voices)
        waiting = sum(len(mouth) for mouth, _, _ in self._waiting)
        count = waiting if self._ended else min(waiting, max(0, known - self._hear_ahead - self._row))
        if count == 0:
            return Performed(torch.zeros(0, 52), torch.zeros(0, 3), torch.zeros(0, 3))
        mouth, closed, touching = self._take(count)
        voices = [self._voice(self._row + i + self._ahead) for i in range(count)]
        if closed is None:
            speaking = torch.tensor([float(v.speaking) for v in voices])
            closed = ((1.0 - lip_gap(mouth)) / 0.8).clamp(0, 1) * speaking
        rows, heads, lifts = np.zeros((count, 52)), np.zeros((count, 3)), np.zeros((count, 3))
        spoken = self._styled(mouth)
        styled, contact = spoken.double().numpy(), closed.double().numpy()
        for i, voice in enumerate(voices):
            self._hear(self._row + self._hear_ahead)
            rows[i], heads[i], lifts[i] = self._step(styled[i], float(contact[i]), voice)
        keep = max(0, self._row + min(self._ahead, self._hear_ahead) - self._first_voice)
        self._voices, self._first_voice = self._voices[keep:], self._first_voice + min(keep, len(self._voices))
        expression = torch.from_numpy(rows).float().clamp(0, 1)
        expression = open_lips(expression, 0.8 * (lip_gap(spoken) - 1.0).clamp(min=0))
        if touching is not None and bool((touching > 0).any()):
            expression = touch_teeth(expression, touching)
        if bool((closed > 0).any()):
            expression = close_lips(expression, closed)
        return Performed(expression, torch.from_numpy(heads).float(), torch.from_numpy(lifts).float())

    def _voice(self, row: int) -> ProsodyRow:
        at = row - self._first_voice
        return self._voices[at] if 0 <= at < len(self._voices) else SILENT_ROW

    def _take(self, count: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The next rows of articulation."""
        taken: list[tuple[Tensor, Tensor | None, Tensor | None]] = []
        while count:
            mouth, closed, touching = self._waiting[0]
            n = min(count, len(mouth))
            taken.append((mouth[:n], _part(closed, slice(n)), _part(touching, slice(n))))
            rest = slice(n, None)
            self._waiting[:1] = [(mouth[rest], _part(closed, rest), _part(touching, rest))] if n < len(mouth) else []
            count -= n
        mouths = [mouth for mouth, _, _ in taken]
        closed = _joined(mouths, [closed for _, closed, _ in taken])
        return torch.cat(mouths), closed, _joined(mouths, [touching for _, _, touching in taken])

    def _styled(self, mouth: Float[Tensor, "n 52"]) -> Float[Tensor, "n 52"]:
        """The mouth with the person's amplitudes and asymmetry."""
        if self._listening:
            return torch.zeros_like(mouth)
        style, gain = self._style, self.settings.mouth
        out = mouth.clone()
        out[:, list(_MOUTH)] *= gain * style.mouth
        out[:, _JAW] *= style.jaw / max(style.mouth, 1e-6)
        for left, right in _SIDES:
            out[:, left] *= 1 + style.asymmetry
            out[:, right] *= 1 - style.asymmetry
        return out.clamp(0, 1)

    def _target_of(self, mixture: dict[str, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        gain = self.settings.intensity
        scaled = {label: min(1.0, gain * x) for label, x in mixture.items()}
        wanted = expression_of(scaled, self._units)
        shapes = np.zeros(52)
        for name, value in wanted.shapes.items():
            shapes[ARKIT_INDEX[name]] = value
        smile = "mouthSmile" if self._style.smile > 0 else "mouthFrown"
        for side in ("Left", "Right"):
            shapes[ARKIT_INDEX[smile + side]] += abs(self._style.smile)
        return shapes.clip(0, 1), np.array(wanted.pose) + self._lean, np.array(wanted.movement * self._movement)

    def _due(self) -> list[Cue]:
        """Cues that begin at this row; those that change the state are carried out."""
        due = []
        while self._cue < len(self._cues) and self._cues[self._cue].time < (self._row + 1) * ROW:
            due.append(self._cues[self._cue])
            self._cue += 1
        for cue in due:
            if cue.kind == "emotion":
                mixture = parse_emotion(cue.value)
                self._heard = HeardEmotion() if mixture is None else None
                self._mixture = {k: min(1.0, x * cue.amount) for k, x in (mixture or {}).items()}
                self._target = self._target_of(self._mixture)
            elif cue.kind in ("laugh", "sigh"):
                self._acts.append(Act(cue.kind, self._row, cue.amount, cue.duration))
            elif cue.kind in ("listen", "speak"):
                self._listening = cue.kind == "listen"
        return due

    def _hear(self, row: int) -> None:
        """Recognises laughs and sighs up to a row, and acts them from their beginning where that is still ahead."""
        while self._heard_rows <= row:
            heard = self._nonspeech.step(self._voice(self._heard_rows))
            self._heard_rows += 1
            if heard is None or self._listening or self.settings.nonspeech == 0:
                continue
            seconds = (heard.end - heard.start) * ROW
            same = next((act for act in self._acts if act.heard == heard.start and act.kind == heard.kind), None)
            if heard.kind == "laugh":
                start = max(self._row, heard.start - 10) if same is None else same.start
                lasts = (heard.end - start) * ROW + 0.6
                if same is not None:
                    same.seconds = lasts
                else:
                    self._acts.append(Act("laugh", start, 0.8, lasts, heard=heard.start))
            elif heard.end > self._row:  # a sigh that is over needs no face any more
                begin = heard.start - round(0.6 * seconds / ROW)
                self._acts.append(Act("sigh", max(self._row, begin), 0.8, 1.7 * seconds, heard=heard.start))

    def _step(self, mouth: np.ndarray, closed: float, voice: ProsodyRow) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        s, row = self.settings, self._row
        cues = self._due()
        listening = self._listening
        talking = voice.speaking and not listening
        self._talking += ((1.0 if talking else 0.0) - self._talking) * (ROW / 0.15)
        self._feel(voice)
        resting = not voice.speaking and voice.pause > 1.0
        gaze, shift = self._gaze.step(row, voice, resting=resting, listening=listening, cues=cues)
        shapes, act_head, act_lift, deep = self._acted()
        movement = float(self._mood_movement)
        head = self._head.step(row, voice, listening=listening, movement=movement, cues=cues,
                               follow=self._gaze.head_share())  # fmt: skip
        head = s.head * (head + self._mood_pose) + act_head
        volume, flow = self._breath.step(voice, own=not listening, deep=deep)
        head[0] += s.breathing * _CHEST_PITCH * (volume - 0.4)
        out = mouth + self._face(mouth, closed)
        for index, value in shapes.items():
            free = (1 - closed) if index in _OPENERS else 1.0
            out[index] = max(out[index], value * free)
        for name, value in zip(BROW_SHAPES, self._brows.step(row, voice, listening=listening, cues=cues), strict=True):
            out[ARKIT_INDEX[name]] += value
        quick = s.breathing * max(0.0, flow - 0.3) / 0.7
        for name in ("noseSneerLeft", "noseSneerRight"):
            out[ARKIT_INDEX[name]] += 0.05 * s.breathing * flow
        out[_JAW] = max(out[_JAW], 0.05 * quick * (1 - self._talking))
        lids = self._blinks.step(row, voice, shift=shift, resting=resting, listening=listening, cues=cues)
        if s.gaze > 0:
            for name, value in eye_shapes(float(gaze[0] - head[1]), float(gaze[1] + head[0])).items():
                out[ARKIT_INDEX[name]] += value
        for side, lid in zip(("Left", "Right"), lids, strict=True):
            blink = ARKIT_INDEX[f"eyeBlink{side}"]
            out[blink] = max(out[blink], lid)
            for other in ("eyeWide", "eyeSquint"):
                out[ARKIT_INDEX[other + side]] *= 1 - lid
        self._row += 1
        lift = np.array([0.0, s.breathing * _LIFT * (volume - 0.4) + act_lift, 0.0])
        return out, head, lift

    def _feel(self, voice: ProsodyRow) -> None:
        """The mood of this row: towards the target, and never quite still."""
        if self._heard is not None:
            self._target = self._target_of(self._heard.step(voice))
        # A mood flares on what is stressed and fades in between.
        self._flare += (0.85 - self._flare) * (ROW / 1.2) + (0.3 * voice.accent if not self._listening else 0.0)
        self._flare = min(1.15, self._flare)
        share = ROW / 0.25
        shapes, pose, movement = self._target
        self._mood += (shapes - self._mood) * share
        self._mood_pose += (pose - self._mood_pose) * share
        self._mood_movement += (movement - self._mood_movement) * share

    def _face(self, mouth: np.ndarray, closed: float) -> np.ndarray:
        """What the mood adds to a mouth that speaks: its corners stay, its openings yield."""
        wave = self._flare * (1 + 0.08 * float(np.tanh(self._mood_noise.step()[0])))
        add = self._mood * wave
        talk = self._talking
        rounded = min(1.0, mouth[_PUCKER] + mouth[_FUNNEL])
        opened = min(1.0, mouth[_JAW] / 0.25) * talk
        for i in _OPENERS:
            add[i] *= (1 - closed) * (1 - 0.6 * talk)
        for i in _SPREADERS:
            add[i] *= (1 - 0.5 * rounded) * (1 - 0.2 * talk)
        for i in _PRESSERS:
            add[i] *= 1 - max(0.85 * opened, 0.6 * talk)
        return add

    def _acted(self) -> tuple[dict[int, float], np.ndarray, float, float]:
        """Sum of laughs and sighs under way."""
        shapes: dict[int, float] = {}
        head, lift, deep = np.zeros(3), 0.0, 0.0
        gain, kept = self.settings.nonspeech, []
        for act in self._acts:
            if act.start > self._row:
                kept.append(act)
                continue
            state = act.step(self._row)
            if state is None:
                continue
            kept.append(act)
            for name, value in state[0].items():
                index = ARKIT_INDEX[name]
                shapes[index] = max(shapes.get(index, 0.0), gain * value)
            head += gain * np.array(state[1])
            lift, deep = lift + gain * state[2], max(deep, gain * state[3])
        self._acts = kept
        return shapes, head, lift, deep


def _part(values: Tensor | None, rows: slice) -> Tensor | None:
    return None if values is None else values[rows]


def _joined(mouths: list[Tensor], parts: list[Tensor | None]) -> Tensor | None:
    """Parts one after another, 0 where only some are known; none where none is."""
    if all(part is None for part in parts):
        return None
    return torch.cat([mouth.new_zeros(len(mouth)) if p is None else p for mouth, p in zip(mouths, parts, strict=True)])
