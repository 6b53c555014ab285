"""Directions in text, and descriptions in words."""

import pytest

from avatar3d.drive.speech.description import MANNERS, describe
from avatar3d.drive.speech.facs import ACTION_UNITS
from avatar3d.drive.speech.markup import parse_markup, place_cues


def test_plain_text_is_one_passage():
    (only,) = parse_markup("Hello there.")
    assert (only.text, only.pause, only.directions, only.leading) == ("Hello there.", 0.0, (), ())


def test_directions_and_pauses():
    first, second = parse_markup("[happy 0.8] Hello [nod] there! [pause 0.5] [look left 2] I am [sad:0.4] sorry.")
    assert first.text == "Hello there!" and second.text == "I am sorry."
    assert (first.pause, second.pause) == (0.0, 0.5)
    assert [(d.cue.kind, d.cue.value, d.cue.time) for d in first.leading] == [("emotion", "happy:0.8", 0.0)]
    assert [(d.word, d.cue.kind) for d in first.directions] == [(1, "nod")]
    (look,) = second.leading
    assert (look.cue.kind, look.cue.value, look.cue.duration, look.cue.time) == ("look", "left", 2.0, 0.5)
    assert [(d.word, d.cue.value) for d in second.directions] == [(2, "sad:0.4")]


def test_a_laugh_takes_its_time():
    first, second = parse_markup("Ha. [laugh] Funny. [nod 0.5]")
    assert first.text == "Ha." and second.pause == pytest.approx(1.8)
    assert second.leading[0].cue.kind == "laugh" and second.leading[0].cue.time == 0.0
    assert second.directions[0].cue.amount == 0.5 and second.directions[0].word == 1


def test_places():
    (passage,) = parse_markup("one [nod] two [blink]")
    nod, blink = place_cues(passage.directions, [0.1, 0.6], 1.1)
    assert (nod.time, nod.kind, blink.time, blink.kind) == (0.6, "nod", 1.1, "blink")


@pytest.mark.parametrize(
    "bad",
    ["[dance] x", "[happy 3] x", "[happy a] x", "[pause -1] x", "[pause x] x", "[look back] x", "[look] x", "[nod",
     "a]", "[tilt up] x", "[] x", "[nod 1 2] x"],
)  # fmt: skip
def test_what_is_no_direction_is_said(bad):
    with pytest.raises(ValueError, match=r"\[|bracket"):
        parse_markup(bad)


def test_descriptions():
    tired = describe("speaks wearily, with a forced smile")
    assert tired.unknown == () and tired.pace < 0.8 and tired.pose[0] > 0
    assert tired.units["AU43"] == 0.35 and tired.units["AU12"] == 0.55 and "AU6" not in tired.units
    assert describe("very angrily").units["AU7"] == pytest.approx(1.4 * describe("angrily").units["AU7"])
    assert describe("slightly happy").units["AU12"] < 0.5 * describe("happy").units["AU12"]
    assert describe("without a smile").units == {}
    assert describe("she flabbergasts the saddle").unknown == ("flabbergasts", "saddle")
    assert describe("").units == {} and describe("").unknown == ()


def test_the_table_names_units_that_exist():
    for stems, manner in MANNERS.items():
        assert set(manner.units) <= set(ACTION_UNITS), stems
        for stem in stems.split("|"):
            assert stem == stem.lower() and stem.strip() == stem
