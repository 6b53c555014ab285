"""Phones with times -> 52 curves over time: every viseme pulls, the articulators have inertia, closures are kept.

Each curve x minimises  sum_t w_t (x_t - g_t)^2 + 2 s^2 |x'|^2 + s^4 |x''|^2  over the whole utterance, with the targets
g and weights w of the phones heard at t and a time constant s per articulator. With even weights this is the
critically damped kernel (1 + |t|/s) exp(-|t|/s), looking ahead as far as back, without overshoot; where a consonant is
indifferent (small w) its neighbours reach through it, which gives anticipatory rounding, and where phones are short
the targets are not reached, which gives undershoot in fast speech. (Dominance functions in the manner of Cohen and
Massaro, Modeling coarticulation in synthetic visual speech, 1993, with the inertia of articulators instead of a drawn
shape.) Lips that must meet, and the lower lip on the teeth, are then imposed by `closure`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import solveh_banded
from torch import Tensor

from avatar3d.drive.speech.closure import close_lips, touch_teeth
from avatar3d.drive.speech.phones import SILENCE, Articulation, Phone, articulations
from avatar3d.drive.speech.rate import RATE, rows
from avatar3d.drive.speech.visemes import GROUPS, viseme
from avatar3d.types.arkit import ARKIT_INDEX
from avatar3d.typing import typed

_FINE = 2  # cells per row
_INERTIA = {"jaw": 0.036, "round": 0.050, "spread": 0.045, "upper": 0.030, "lower": 0.030, "lips": 0.022,
            "cheek": 0.04, "tongue": 0.03}  # fmt: skip
_LEAD = {"round": 0.03}  # seconds by which a group runs ahead of the sound
_REST_AFTER = 0.4  # seconds of silence after which the mouth is really at rest
_LIPS = 0.05  # seconds that lips take to close or open
_HELD = 0.2  # seconds of pause through which two contacts are one
_SHORTEST = 0.05  # seconds of contact, however short the phone
_RELEASE = {True: 0.8, False: 0.62}  # of a plosive's time, when the lips part: voiced, voiceless (a breath follows)


@typed
def articulate(phones: Sequence[Phone], duration: float | int) -> Float[Tensor, "t 52"]:
    """What lips, jaw, cheeks and tongue do while these phones are spoken.

    Args:
        phones: In order of time; time that none covers is silence.
        duration: Seconds to cover.

    Returns:
        ARKit coefficients at `RATE`; curves that are not of the mouth stay 0.
    """
    count = rows(duration)
    curves = torch.zeros(count, len(ARKIT_INDEX))
    if count == 0:
        return curves
    pieces = _pieces(phones, count / RATE)
    for group, names in GROUPS.items():
        targets, weights = _pulls(group, names, pieces, count * _FINE)
        smooth = _smooth(targets, weights, _INERTIA[group] * RATE * _FINE)
        coarse = smooth.reshape(count, _FINE, len(names)).mean(1)
        curves[:, [ARKIT_INDEX[name] for name in names]] = torch.from_numpy(coarse).float()
    curves = touch_teeth(curves, labiodentals(phones, duration))
    return close_lips(curves, closures(phones, duration))


@typed
def closures(phones: Sequence[Phone], duration: float | int) -> Float[Tensor, "t"]:
    """Where the lips must meet: 1 inside p, b and m, 0 elsewhere, with the time that lips take to close and open."""
    return _contacts(phones, rows(duration), "bilabial")


@typed
def labiodentals(phones: Sequence[Phone], duration: float | int) -> Float[Tensor, "t"]:
    """Where the lower lip must touch the upper teeth: 1 inside f and v, 0 elsewhere, with soft edges."""
    return _contacts(phones, rows(duration), "labiodental")


def _pieces(phones: Sequence[Phone], end: float) -> list[tuple[Articulation, float, float]]:
    """Articulations with start and end, gaps filled with silence."""
    out: list[tuple[Articulation, float, float]] = []
    clock = 0.0
    quiet = articulations(SILENCE)[0]
    for phone in sorted(phones, key=lambda p: p.start):
        start, stop = max(phone.start, clock), min(phone.end, end)
        if stop <= start:
            continue
        if start > clock + 1e-4:
            out.append((quiet, clock, start))
        at = start
        for part in articulations(phone.symbol):
            out.append((part, at, at + part.share * (stop - start)))
            at = out[-1][2]
        clock = stop
    if end > clock:
        out.append((quiet, clock, end))
    return out


def _pulls(
    group: str, names: Sequence[str], pieces: Sequence[tuple[Articulation, float, float]], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Targets [t, names] and weights [t] of one group, averaged over each cell."""
    step = 1 / (RATE * _FINE)
    sums, weights = np.zeros((count, len(names))), np.full(count, 1e-4)
    lead = _LEAD.get(group, 0.0)
    for i, (part, start, stop) in enumerate(pieces):
        shape = viseme(part)
        goal = np.array([shape.target(name) for name in names])
        first, last = max(int((start - lead) / step), 0), min(int(np.ceil((stop - lead) / step)), count)
        if last <= first:
            continue
        cells = np.arange(first, last)
        cover = np.clip(np.minimum((cells + 1) * step, stop - lead) - np.maximum(cells * step, start - lead), 0, None)
        weight = cover / step * shape.weight(group)
        if part.place == "silence":
            weight = weight * _settling((cells + 0.5) * step + lead, start, stop, i == 0, i == len(pieces) - 1)
        sums[first:last] += weight[:, None] * goal
        weights[first:last] += weight
    return sums / weights[:, None], weights


def _settling(times: np.ndarray, start: float, stop: float, first: bool, last: bool) -> np.ndarray:
    """How much a pause insists on the mouth at rest: little near speech, fully after a while."""
    since = np.full_like(times, np.inf) if first else times - start
    until = np.full_like(times, np.inf) if last else stop - times
    return 0.04 + 0.96 * np.clip(np.minimum(since, until) / _REST_AFTER, 0, 1) ** 2


def _smooth(targets: np.ndarray, weights: np.ndarray, inertia: float) -> np.ndarray:
    """Minimises the sum in the module's text; the ends are free."""
    n = len(targets)
    if n < 3:
        return targets
    bands = np.zeros((3, n))  # upper form: superdiagonal 2, 1, diagonal
    bands[2] = weights
    a, b = 2 * inertia**2, inertia**4
    bands[2, :-1] += a
    bands[2, 1:] += a
    bands[1, 1:] -= a
    bands[2, :-2] += b
    bands[2, 1:-1] += 4 * b
    bands[2, 2:] += b
    bands[1, 1:-1] -= 2 * b
    bands[1, 2:] -= 2 * b
    bands[0, 2:] += b
    smooth = solveh_banded(bands, weights[:, None] * targets)
    return np.clip(smooth, targets.min(0), targets.max(0))


def _contacts(phones: Sequence[Phone], count: int, place: str) -> Tensor:
    """1 while a place of articulation is in contact, with soft edges; at least one row inside each phone is 1."""
    closed = np.zeros(count)
    times = (np.arange(count) + 0.5) / RATE
    middles = []
    held, kept = 0.0, -np.inf  # until when a contact may be held for the next one
    pieces = _pieces(phones, count / RATE)
    for part, start, stop in pieces:
        if part.place == "silence" and stop - start < _HELD and kept == start:
            kept = stop
        if part.place != place or stop <= start:
            continue
        length = stop - start
        release = length if part.nasal or place == "labiodental" else _RELEASE[part.voiced] * length
        first, last = start, start + release
        middles.append(min(max(int(0.5 * (first + last) * RATE), 0), count - 1))
        if kept == start:  # only a short pause since the last contact: the lips stay where they are
            first = held
        held, kept = first, stop
        short = max(_SHORTEST - (last - first), 0.0)
        first, last = first - 0.5 * short, last + 0.5 * short
        near = _rows_between(first - _LIPS, last + _LIPS)
        outside = np.maximum(np.maximum(first - times[near], times[near] - last), 0)
        ramp = 0.5 + 0.5 * np.cos(np.pi * np.clip(outside / _LIPS, 0, 1))
        closed[near] = np.maximum(closed[near], ramp)
    for part, start, stop in pieces:
        if part.place == "vowel":  # whose middle is open, however short it is
            near = _rows_between(start - 1 / RATE, stop + 1 / RATE)
            away = np.abs(times[near] - 0.5 * (start + stop)) - 0.5 / RATE
            closed[near] = np.minimum(closed[near], np.clip(away / max(0.5 * (stop - start), 0.5 / RATE), 0, 1))
    closed[middles] = 1
    return torch.from_numpy(closed).float()


def _rows_between(start: float, end: float) -> slice:
    return slice(max(int(start * RATE), 0), max(int(end * RATE) + 1, 0))
