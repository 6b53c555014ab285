"""How something is said: loudness, pitch, voicing, stress, pauses; block by block, with a bounded look-ahead.

Pitch is YIN (de Cheveigné and Kawahara 2002) on windows of 50 ms. All levels are relative to the sound's own floor
and peaks, which are followed, so that neither the microphone's gain nor steady noise matters.
"""

import math
from collections import deque
from dataclasses import dataclass, fields

import numpy as np

from avatar3d.drive.speech.rate import RATE

SAMPLE_RATE = 16000
"""Samples per second of everything in this package."""
_HOP = SAMPLE_RATE // RATE
_WINDOW = 800
_REACH = (_WINDOW - _HOP) // 2
"""Samples that a row needs beyond its end."""
_PITCH = (65.0, 480.0)
_LAGS = (int(SAMPLE_RATE / _PITCH[1]), int(SAMPLE_RATE / _PITCH[0]))
_FFT = 1024
_BANDS = [round(hertz * _FFT / SAMPLE_RATE) for hertz in (300, 900, 1500, 2300, 4000)]
_SIDE = 5
"""Rows after a syllable's peak that decide whether it is one."""
_SILENCE_DB = -65.0
LOOKAHEAD_ROWS = 1 + _SIDE
"""Rows of sound after a row until all is known about it."""


@dataclass(frozen=True, slots=True)
class ProsodyRow:
    """20 ms of a voice."""

    loudness: float
    """0 at the floor, 1 at the usual peaks of this voice."""
    level: float
    """dB of full scale."""
    pitch: float
    """Hz; 0 where unvoiced."""
    voicing: float
    """0..1, how periodic the sound is."""
    tilt: float
    """dB of what is above 1 kHz against what is below; tense voices are bright."""
    speaking: bool
    """Somebody speaks; pauses below 0.2 s count as speech."""
    accent: float
    """Strength 0..1 of a stressed syllable whose peak lies here; 0 elsewhere."""
    syllable: bool
    """A syllable's peak lies here."""
    starts: bool
    """First row of a phrase."""
    ends: bool
    """First row after a phrase."""
    pause: float
    """Seconds since the last phrase, 0 while speaking."""
    timbre: tuple[float, ...] = ()
    """dB in bands from 300 Hz to 4 kHz, less their mean: what tells one vowel from another."""


class Running:
    """Mean and standard deviation with exponential forgetting, from a prior on.

    `seconds` is the time constant where a value is added each row; divide by the rate for a number of values.
    """

    def __init__(self, mean: float, deviation: float, seconds: float) -> None:
        self.mean, self._square = mean, deviation**2 + mean**2
        self._keep = math.exp(-1 / (seconds * RATE))

    def add(self, value: float) -> None:
        """One more value."""
        self.mean = self._keep * self.mean + (1 - self._keep) * value
        self._square = self._keep * self._square + (1 - self._keep) * value * value

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return math.sqrt(max(1e-6, self._square - self.mean**2))


class ProsodyStream:
    """Samples in, `ProsodyRow`s out, `LOOKAHEAD_ROWS` later; the same rows however the samples are cut."""

    def __init__(self) -> None:
        self._samples = np.zeros(_REACH, np.float32)
        self._seen = 0
        self._emitted = 0
        self._raw: deque[dict] = deque()
        self._floor, self._peak = -60.0, -30.0
        self._heard = 0
        self._envelope: deque[float] = deque([0.0] * 3, maxlen=3)
        self._semitones, self._peaks = Running(0.0, 3.0, 6.0), Running(0.95, 0.12, 6 / RATE)
        self._threshold = 0.8
        self._pitch_known = False
        self._last_pitch = 0.0
        self._last_accent = -(10**9)
        self._voiced_at = -(10**9)
        self._active_at = -(10**9)
        self._speaking = False
        self._ended_at: int | None = None
        self._run = 0

    def push(self, samples: np.ndarray) -> list[ProsodyRow]:
        """Rows that these samples (float, mono, 16 kHz) complete."""
        self._seen += len(samples)
        self._samples = np.concatenate([self._samples, np.nan_to_num(samples.astype(np.float32))])
        count = (len(self._samples) - _WINDOW) // _HOP + 1
        rows: list[ProsodyRow] = []
        for first in range(0, max(0, count), 256):
            block = min(256, count - first)
            windows = np.lib.stride_tricks.sliding_window_view(self._samples, _WINDOW)[first * _HOP :: _HOP][:block]
            rows += self._take(_measure(windows))
        if count > 0:
            self._samples = self._samples[count * _HOP :].copy()
        return rows

    def flush(self, rows: int | None = None) -> list[ProsodyRow]:
        """The rest, as if silence followed; `rows` is how many there shall be in all (else what the samples fill)."""
        total = -(-self._seen // _HOP) if rows is None else rows
        seen, wanted = self._seen, total - self._emitted
        padding = np.zeros((total + LOOKAHEAD_ROWS + 1) * _HOP + _WINDOW - seen, np.float32)
        out = self.push(padding)[: max(0, wanted)]
        self._seen = seen
        return out

    def _take(self, measured: dict[str, np.ndarray]) -> list[ProsodyRow]:
        done = []
        columns = {name: values.tolist() for name, values in measured.items()}
        columns["timbre"] = [tuple(row) for row in columns["timbre"]]
        for i in range(len(columns["level"])):
            self._advance({name: values[i] for name, values in columns.items()})
            if len(self._raw) > _SIDE:
                done.append(self._row(len(self._raw) - 1 - _SIDE))
            if len(self._raw) > 2 * _SIDE:
                self._raw.popleft()
        self._emitted += len(done)
        return done

    def _advance(self, raw: dict) -> None:
        """Follows floor, peaks and statistics by one row."""
        row, level = self._heard, raw["level"]
        self._heard += 1
        # The floor falls at once and rises by 3 dB a second; the peak rises within 60 ms and falls by 1.5 dB a second.
        self._floor = max(-75.0, min(level, self._floor + 0.06) if row else level)
        if raw["voicing"] > 0.5 and level > self._floor + 9:
            self._peak += (level - self._peak) * 0.3 if level > self._peak else -0.03
        self._peak = max(self._peak, self._floor + 15)
        span = self._peak - self._floor
        loudness = min(1.3, max(0.0, (level - self._floor - 0.15 * span) / (0.85 * span)))
        loudness = loudness if level > _SILENCE_DB else 0.0
        self._envelope.append(loudness)
        raw["loudness"], raw["envelope"] = loudness, sum(self._envelope) / 3
        voiced = raw["voicing"] > 0.55 and loudness > 0.2
        if voiced and self._last_pitch and abs(math.log2(raw["pitch"] / self._last_pitch)) > 0.75:
            octave = round(math.log2(raw["pitch"] / self._last_pitch))
            raw["pitch"] /= 2.0**octave  # a jump by an octave within a voiced stretch is YIN's error
        self._last_pitch = raw["pitch"] if voiced else 0.0
        raw["pitch"] = raw["pitch"] if voiced else 0.0
        raw["row"] = row
        self._run = self._run + 1 if voiced else 0
        if self._run >= 2:
            self._voiced_at = row
        if loudness > 0.12:
            self._active_at = row
        if voiced:
            semitone = 12 * math.log2(raw["pitch"] / 100)
            if not self._pitch_known:
                self._semitones, self._pitch_known = Running(semitone, 3.0, 6.0), True
            self._semitones.add(semitone)
            raw["height"] = (semitone - self._semitones.mean) / max(1.5, self._semitones.deviation)
        else:
            raw["height"] = 0.0
        speaking = row - self._voiced_at < 15 and row - self._active_at < 10
        raw["starts"], raw["ends"] = speaking and not self._speaking, self._speaking and not speaking
        self._speaking = raw["speaking"] = speaking
        if speaking:
            self._ended_at = None
        elif raw["ends"]:
            self._ended_at = row
        raw["pause"] = 0.0 if speaking else 60.0 if self._ended_at is None else (row - self._ended_at + 1) / RATE
        self._raw.append(raw)

    def _row(self, at: int) -> ProsodyRow:
        raw = self._raw[at]
        around = [r["envelope"] for r in self._raw]
        # The envelope is a mean over three rows, so its peak is one row late: close enough to one syllable's.
        peak = (
            raw["speaking"] and raw["envelope"] > 0.25 and raw["envelope"] == max(around)
            and raw["envelope"] > max(around[:at], default=-1.0) and max(r["voicing"] for r in self._raw) > 0.6
        )  # fmt: skip
        accent = 0.0
        if peak:
            stress = (raw["envelope"] - self._peaks.mean) / max(0.06, self._peaks.deviation)
            self._peaks.add(raw["envelope"])
            prominence = stress + 0.8 * max(r["height"] for r in self._raw)
            above = prominence - self._threshold
            if above > 0 and raw["row"] - self._last_accent >= 0.26 * RATE:
                accent = min(1.0, 0.25 + above / 2.5)
                self._last_accent = raw["row"]
            # A third of the syllables are accented, whoever speaks.
            self._threshold += 0.25 * (0.65 if above > 0 else -0.35)
            self._threshold = min(2.5, max(0.0, self._threshold))
        values = {f.name: raw[f.name] for f in fields(ProsodyRow) if f.name in raw}
        return ProsodyRow(**values, accent=accent, syllable=peak)


def _measure(windows: np.ndarray) -> dict[str, np.ndarray]:
    """Level, pitch, voicing and tilt of windows [n, 800]."""
    x = windows - windows.mean(1, keepdims=True)
    middle = x[:, _REACH : _REACH + _HOP]
    level = 10 * np.log10((middle * middle).mean(1) + 1e-12)
    spectrum = np.fft.rfft(x * np.hanning(_WINDOW).astype(np.float32), _FFT)
    power = spectrum.real**2 + spectrum.imag**2
    edge = round(1000 * _FFT / SAMPLE_RATE)
    tilt = 10 * np.log10((power[:, edge:].sum(1) + 1e-9) / (power[:, 4:edge].sum(1) + 1e-9))
    pitch, voicing = _yin(x)
    voicing = np.where(level > _SILENCE_DB, voicing, 0.0)
    bands = 10 * np.log10(np.add.reduceat(power, _BANDS, axis=1)[:, :-1] + 1e-9)
    timbre = bands - bands.mean(1, keepdims=True)
    return {"level": level, "pitch": pitch, "voicing": voicing, "tilt": tilt, "timbre": timbre}


def _yin(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch in Hz and periodicity 0..1 of windows [n, 800]."""
    low, high = _LAGS
    width = _WINDOW - high - 1
    head = np.zeros_like(x)
    head[:, :width] = x[:, :width]
    product = np.fft.irfft(np.fft.rfft(head, _FFT).conj() * np.fft.rfft(x, _FFT), _FFT)[:, : high + 2]
    energy = np.pad(np.cumsum(x.astype(np.float64) ** 2, 1), ((0, 0), (1, 0)))
    lags = np.arange(high + 2)
    shifted = energy[:, np.minimum(lags + width, _WINDOW)] - energy[:, lags]
    difference = np.maximum(shifted[:, :1] + shifted - 2 * product, 0.0)
    running = np.cumsum(difference[:, 1:], 1)
    normal = np.ones_like(difference)
    normal[:, 1:] = difference[:, 1:] * lags[1:] / np.maximum(running, 1e-9)
    part = normal[:, low : high + 1]
    # The first dip below the threshold, down to its bottom; without one the lowest.
    below = part < 0.18
    dips = below & (part <= np.roll(part, -1, 1)) & (part <= np.roll(part, 1, 1))
    dips[:, 0] = dips[:, -1] = False
    best = np.where(dips.any(1), dips.argmax(1), part.argmin(1))
    rows = np.arange(len(x))
    lag = best + low
    a, b, c = normal[rows, np.maximum(lag - 1, 0)], normal[rows, lag], normal[rows, lag + 1]
    bend = a - 2 * b + c
    safe = np.where(np.abs(bend) > 1e-9, bend, 1.0)
    offset = np.clip(np.where(np.abs(bend) > 1e-9, 0.5 * (a - c) / safe, 0.0), -0.5, 0.5)
    return SAMPLE_RATE / (lag + offset), np.clip(1 - b, 0.0, 1.0)


SILENT_ROW = ProsodyRow(loudness=0.0, level=-120.0, pitch=0.0, voicing=0.0, tilt=0.0, speaking=False, accent=0.0,
                        syllable=False, starts=False, ends=False, pause=60.0)  # fmt: skip
"""What is heard before and after a sound."""
