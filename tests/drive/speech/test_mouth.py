"""Contacts: lips that meet where a closure is heard, take their time, and are apart in every vowel."""

import pytest
import torch

from avatar3d.drive.speech.closure import close_lips, lip_gap
from avatar3d.drive.speech.mouth import Mouth, articulated
from avatar3d.nets.speech_motion import Heard
from avatar3d.types import ARKIT_INDEX

ROWS = 60


def heard(closed=(), vowels=(), labiodental=()):
    """Someone speaks with an open mouth; rows in which closures, vowels and labiodentals are heard."""
    curves, probabilities = torch.zeros(ROWS, 52), torch.zeros(3, ROWS)
    curves[:, ARKIT_INDEX["jawOpen"]] = 0.2
    for line, rows in zip(probabilities, (closed, vowels, labiodental), strict=True):
        line[list(rows)] = 1.0
    return Heard(curves, probabilities[0], probabilities[2], torch.ones(ROWS), probabilities[1])


def streamed(what):
    return Mouth()._settled(what)


@pytest.mark.parametrize("settle", [articulated, streamed])
def test_a_closure_shuts_the_lips(settle):
    rows = settle(heard(closed=range(40, 44)))
    gap = lip_gap(close_lips(rows.curves, rows.closed))
    assert float(gap[42]) == 0 and float(gap[30]) > 3 and float(gap[55]) > 3


@pytest.mark.parametrize("settle", [articulated, streamed])
def test_no_vowel_is_shut(settle):
    # a vowel of two rows between closures that are heard through it
    rows = settle(heard(closed=range(36, 48), vowels=(41, 42)))
    gap = lip_gap(close_lips(rows.curves, rows.closed))
    assert float(gap[38]) == 0 and float(gap[46]) == 0
    assert float(gap[41:43].min()) > 1


def test_lips_of_a_file_are_on_their_way_before_they_meet():
    rows = articulated(heard(closed=(40, 41)))
    closed = rows.closed
    assert 0.4 < float(closed[39]) < 1 and 0 < float(closed[38]) < float(closed[39]) and float(closed[36]) == 0
    torch.testing.assert_close(closed[38:40], closed[42:44].flip(0))


def test_the_lower_lip_goes_to_the_teeth():
    rows = articulated(heard(labiodental=range(30, 34)))
    assert float(rows.touching[31]) > 0.999 and float(rows.closed.max()) == 0
