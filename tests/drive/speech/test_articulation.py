"""Phones to curves: closures, openings, rounding and undershoot; no program is needed."""

from pathlib import Path

import pytest
import torch

from avatar3d import models
from avatar3d.drive.speech import (
    RATE,
    Phone,
    articulate,
    articulations,
    close_lips,
    closures,
    labiodentals,
    lip_gap,
    open_lips,
    tooth_gap,
    touch_teeth,
)
from avatar3d.drive.speech.phones import ARPABET, PLACE_OF, VOWELS
from avatar3d.drive.speech.visemes import viseme
from avatar3d.types.arkit import ARKIT_INDEX, ARKIT_NAMES, mirrored_name

INNER_LIPS = ((13, 14), (312, 317), (82, 87), (311, 402), (81, 178))  # MediaPipe's points, upper and lower


def spoken(text: str, length: float = 0.09, before: float = 0.3) -> tuple[tuple[Phone, ...], float]:
    """Phones of even length, separated by spaces, after and before silence."""
    symbols = text.split()
    phones = tuple(
        Phone(symbol=s, start=before + i * length, end=before + (i + 1) * length) for i, s in enumerate(symbols)
    )
    return phones, 2 * before + len(symbols) * length


def row(time: float) -> int:
    return int(time * RATE)


def landmark_gap(curves: torch.Tensor) -> torch.Tensor:
    """Opening between MediaPipe's inner-lip points on the whole model, beyond the neutral head's, mm."""
    head = models.load("head")
    embedding = head.landmarks["mediapipe478"]
    identity = torch.zeros(len(curves) + 1, 1)
    vertices = head.rest_vertices(identity, torch.cat([curves, torch.zeros(1, 52)]))

    def height(point: int) -> torch.Tensor:
        corners = vertices[:, head.faces[embedding.faces[point]], 1]
        return (corners * embedding.weights[point]).sum(1)

    gaps = torch.stack([height(a) - height(b) for a, b in INNER_LIPS], 1) * 1000
    return (gaps[:-1] - gaps[-1]).amax(1)


@pytest.mark.parametrize("length", [0.12, 0.08, 0.05])
@pytest.mark.parametrize("consonant", ["p", "b", "m", "mʲ", "ph"])
def test_lips_meet_in_bilabials_and_part_in_the_vowels_between(consonant, length):
    phones, duration = spoken(f"ɑ {consonant} æ {consonant} ʌ {consonant} aɪ", length)
    curves = articulate(phones, duration)
    gap = landmark_gap(curves)
    for phone in phones:
        inside = gap[row(phone.start + 0.004) : row(phone.end - 0.004) + 1]
        if phone.symbol == consonant:
            assert inside.min() < 1.0
        else:
            assert lip_gap(curves)[row(0.5 * (phone.start + phone.end))] > 2.5


@pytest.mark.parametrize(
    "added",
    [
        {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0},
        {"mouthUpperUpLeft": 0.8, "mouthUpperUpRight": 0.8, "mouthLowerDownLeft": 0.6, "mouthLowerDownRight": 0.6},
        {"jawOpen": 0.5, "mouthFunnel": 0.5},
        {"jawOpen": 0.3, "mouthSmileRight": 0.8, "noseSneerLeft": 0.5, "mouthShrugUpper": 0.5},
    ],
)
def test_lips_still_meet_whatever_is_added(added):
    phones, duration = spoken("m ɑ m æ p i b")
    curves = articulate(phones, duration)
    for name, value in added.items():
        curves[:, ARKIT_INDEX[name]] += value
    curves.clamp_(max=1)
    closed = closures(phones, duration)
    before = landmark_gap(curves)[closed == 1]
    kept = close_lips(curves, closed)
    assert landmark_gap(kept)[closed == 1].max() < 1.0
    if "jawOpen" in added:
        assert before.min() > 1.0  # there was something to do
    assert torch.equal(kept[closed == 0], curves[closed == 0])
    smile = [ARKIT_INDEX["mouthSmileLeft"], ARKIT_INDEX["mouthSmileRight"]]
    assert torch.equal(kept[:, smile], curves[:, smile])


def test_closing_is_a_projection_and_in_proportion():
    curves = torch.zeros(5, 52)
    curves[:, ARKIT_INDEX["jawOpen"]] = 0.3
    gap = lip_gap(close_lips(curves, torch.linspace(0, 1, 5)))
    assert gap[0] > 9 and gap[-1] == 0
    assert (gap[1:] <= gap[:-1]).all()
    torch.testing.assert_close(gap[2], 0.5 * gap[0], atol=0.5, rtol=0)
    once = close_lips(curves, torch.ones(5))
    torch.testing.assert_close(close_lips(once, torch.ones(5)), once, atol=2e-3, rtol=0)


def test_lips_stay_apart_under_what_shuts_them():
    curves = torch.zeros(3, 52)
    curves[:, ARKIT_INDEX["jawOpen"]] = torch.tensor([0.1, 0.2, 0.3])
    spoken = lip_gap(curves)
    curves[:, ARKIT_INDEX["mouthPucker"]] = 1.0
    assert lip_gap(curves)[0] < 1.5
    kept = open_lips(curves, 0.8 * spoken)
    assert (lip_gap(kept) >= 0.8 * spoken - 0.05).all()
    assert torch.equal(open_lips(kept, torch.zeros(3)), kept)


def test_the_lower_lip_touches_the_teeth_in_labiodentals():
    phones, duration = spoken("ɑ f ɑ v æ")
    curves = articulate(phones, duration)
    middles = [row(0.5 * (p.start + p.end)) for p in phones]
    touching = labiodentals(phones, duration)
    for i in (1, 3):
        assert touching[middles[i]] == 1
        assert tooth_gap(curves)[middles[i]] < 0.5
        assert lip_gap(curves)[middles[i]] > 0.5  # the upper lip is not shut over it
    assert tooth_gap(curves)[middles[0]] > 2.5
    wide = torch.zeros(1, 52)
    wide[:, ARKIT_INDEX["jawOpen"]] = 0.4
    assert tooth_gap(wide) > 5 and tooth_gap(touch_teeth(wide, torch.ones(1))) < 0.5


def test_rounding_is_anticipated_through_indifferent_consonants():
    pucker = {}
    for vowel in ("u", "i"):
        phones, duration = spoken(f"i s t {vowel}")
        curves = articulate(phones, duration)[:, ARKIT_INDEX["mouthPucker"]]
        start = phones[-1].start
        pucker[vowel] = [float(curves[row(start - d)]) for d in (0.0, 0.1, 0.15)]
        pucker[vowel].append(float(curves[row(start + 0.045)]))
    assert pucker["u"][0] > 0.5 * pucker["u"][3]  # most of it is there when the vowel begins
    assert pucker["u"][1] > pucker["i"][1] + 0.1
    assert pucker["u"][2] > pucker["i"][2] + 0.03
    assert pucker["u"][3] > 0.4


def test_vowels_are_told_apart():
    def shape(vowel: str) -> dict[str, float]:
        phones, duration = spoken(f"t {vowel} t", 0.2)
        curves = articulate(phones, duration)
        middle = curves[row(0.6)]
        return {name: float(middle[i]) for name, i in ARKIT_INDEX.items()} | {"gap": float(lip_gap(curves)[row(0.6)])}

    a, i, u, y, o, ae = (shape(v) for v in ("a", "i", "u", "y", "o", "æ"))
    assert a["jawOpen"] > 0.2 > i["jawOpen"] and a["jawOpen"] < 0.4
    assert ae["gap"] > o["gap"] > u["gap"]
    assert u["mouthPucker"] > 0.5 and y["mouthPucker"] > 0.4 and i["mouthPucker"] < 0.05
    assert i["mouthStretchLeft"] > 0.15 > a["mouthStretchLeft"]


def test_fast_speech_undershoots_and_nothing_overshoots():
    peaks = []
    for length in (0.2, 0.1, 0.05):
        phones, duration = spoken("t a t a t a t", length)
        curves = articulate(phones, duration)
        inner = curves[row(phones[2].start) : row(phones[4].end), ARKIT_INDEX["jawOpen"]]
        peaks.append(float(inner.max()))
        assert curves.min() >= 0 and curves.max() <= 1
    assert peaks[0] > peaks[1] > peaks[2]
    assert peaks[2] < 0.85 * peaks[0]


def test_silence_rests_and_the_ends_are_quiet():
    assert articulate((), 1.0).shape == (50, 52)
    assert articulate((), 1.0).abs().max() == 0
    assert articulate((), 0.0).shape == (0, 52)
    phones, _ = spoken("ɑ", 0.3, before=1.0)
    curves = articulate(phones, 3.3)
    assert lip_gap(curves)[row(1.15)] > 6
    assert lip_gap(curves)[[0, row(0.4), row(2.4), -1]].max() < 1.0


def test_only_the_mouth_moves_and_both_sides_alike():
    phones, duration = spoken("m ɑ f i θ ʃ u s t ɹ w æ")
    curves = articulate(phones, duration)
    moved = {name for name, i in ARKIT_INDEX.items() if curves[:, i].abs().max() > 0}
    assert all(name.startswith(("jaw", "mouth", "cheek", "tongue")) for name in moved)
    assert moved >= {"jawOpen", "mouthClose", "mouthPucker", "mouthFunnel", "mouthRollLower", "tongueOut"}
    for name in ARKIT_NAMES:
        assert torch.equal(curves[:, ARKIT_INDEX[name]], curves[:, ARKIT_INDEX[mirrored_name(name)]])


def test_long_speech_costs_little_and_does_not_drift():
    phones, duration = spoken("m ɑ t i " * 25, 0.1)
    curves = articulate(phones, duration)
    first, later = (curves[row(0.3 + k * 0.4) : row(0.3 + k * 0.4) + 20] for k in (4, 18))
    torch.testing.assert_close(first, later, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "symbol, places",
    [
        ("p", ["bilabial"]),
        ("mʲ", ["bilabial"]),
        ("tʃ", ["postalveolar"]),
        ("t͡ʃ", ["postalveolar"]),
        ("ts.", ["postalveolar"]),
        ("pf", ["bilabial", "labiodental"]),
        ("aɪ", ["vowel", "vowel"]),
        ("əl", ["vowel", "lateral"]),
        ("õ", ["vowel"]),
        ("ç", ["palatal"]),
        ("ʔi", ["glottal", "vowel"]),
        ("_", ["silence"]),
        ("", ["silence"]),
        ("‖", ["silence"]),
        ("☃", ["silence"]),
        ("Ж", ["vowel"]),
        ("ő", ["vowel"]),
        ("ğ", ["velar"]),
        ("中", ["vowel"]),
    ],
)
def test_symbols_fall_to_a_place(symbol, places):
    parts = articulations(symbol)
    assert [part.place for part in parts] == places
    assert sum(part.share for part in parts) == pytest.approx(1)


def test_marks_change_what_they_mean():
    assert articulations("kʷ")[0].rounding > 0.4 > articulations("k")[0].rounding
    assert articulations("ˈaː1")[0] == articulations("a")[0]
    assert articulations("ɔ̃")[0].nasal and articulations("m")[0].nasal
    assert articulations("e̞")[0].height < articulations("e")[0].height
    glide, vowel = articulations("uo")
    assert glide.share < vowel.share
    assert not articulations("w")[0].closes and articulations("b")[0].closes


def test_every_symbol_articulates():
    for symbol in [*PLACE_OF, *VOWELS, *ARPABET.values()]:
        phones, duration = spoken(f"a {symbol} a")
        curves = articulate(phones, duration)
        assert torch.isfinite(curves).all() and 0 <= curves.min() and curves.max() < 0.9
    # the whole Unicode block of IPA, its neighbours and what else may come
    for code in [*range(0x250, 0x370), *range(0x1D00, 0x1DC0), *range(0x20, 0x250), 0x5B57, 0x1F600]:
        assert articulations(chr(code))


def test_bad_calls():
    with pytest.raises(Exception, match="curves"):
        close_lips(torch.zeros(3, 51), torch.zeros(3))
    with pytest.raises(Exception, match="t"):
        close_lips(torch.zeros(3, 52), torch.zeros(4))
    # out of order, overlapping, beyond the end: sorted and cut, never a crash
    mess = [
        Phone(symbol="a", start=0.5, end=0.9),
        Phone(symbol="m", start=0.1, end=0.6),
        Phone(symbol="i", start=0.85, end=3.0),
    ]
    assert torch.isfinite(articulate(mess, 1.0)).all()


def test_the_docs_print_the_visemes():
    text = (Path(__file__).resolve().parents[3] / "docs" / "speech.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.split("### ")[1].splitlines()]
    printed = {letter: row[2] for row in rows if len(row) == 3 for letter in row[1].split()}
    for letter in [*PLACE_OF, "i", "a", "ə", "ɔ", "u", "y"]:
        part = articulations(letter)[0]
        if part.rounding and part.place not in ("vowel", "labiovelar", "rhotic"):
            continue
        shape = viseme(part).targets
        expected = ", ".join(f"{name} {value:.2g}" for name, value in shape.items() if round(value, 2) > 0)
        assert printed[letter] == expected, letter
