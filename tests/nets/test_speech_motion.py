"""The network that hears the mouth: what it answers to known speech, and how it takes its input."""

import pytest
import torch

from avatar3d.drive.speech.coarticulation import articulate
from avatar3d.drive.speech.phones import articulations
from avatar3d.evaluate.speech_motion import correlation, lip_opening
from avatar3d.nets import NETWORKS
from avatar3d.nets.registry import WEIGHTS
from avatar3d.nets.speech_motion import CURVES, LOOKAHEAD, ROW, SpeechMotionNet, SpeechNet, spread
from avatar3d.types import ARKIT_INDEX


@pytest.fixture(scope="module")
def spoken(said):
    """The sentence, its sound, and what was heard."""
    speech, samples = said
    net = SpeechMotionNet()
    first, rest = net.push(samples), net.flush()
    heard = {name: torch.cat([getattr(first, name), getattr(rest, name)])
             for name in ("curves", "closed", "labiodental", "voice")}  # fmt: skip
    return speech, samples, heard


def test_rows_cover_the_sound(spoken):
    _, samples, heard = spoken
    assert {len(x) for x in heard.values()} == {-(-len(samples) // ROW)}


def test_lips_follow_the_articulation_of_the_phones(spoken):
    speech, _, heard = spoken
    wanted = lip_opening(articulate(speech.phones, speech.duration))
    made = lip_opening(heard["curves"])
    count = min(len(wanted), len(made))
    assert correlation(made[:count], wanted[:count]) > 0.75


def test_closures_are_heard_and_open_vowels_are_open(spoken):
    speech, _, heard = spoken
    closed, opened = [], []
    for phone in speech.phones:
        rows = slice(int(phone.start * 50), max(int(phone.end * 50), int(phone.start * 50) + 1))
        part = articulations(phone.symbol)[0]
        if part.closes:
            closed.append(float(heard["closed"][rows].max()))
        elif part.place == "vowel" and part.height < 0.4 and phone.end - phone.start > 0.05:
            opened.append(float(heard["closed"][int((phone.start + phone.end) * 25)]))
    assert len(closed) >= 12 and sum(p > 0.5 for p in closed) >= 0.75 * len(closed)
    assert len(opened) >= 4 and max(opened) < 0.6


def test_voice_is_told_from_silence_and_noise(spoken, rng):
    _, _, heard = spoken
    assert float((heard["voice"] > 0.5).float().mean()) > 0.7
    for sound in (torch.zeros(48000), 0.1 * torch.randn(48000, generator=rng)):
        assert float(SpeechMotionNet().push(sound).voice.max()) < 0.5


def test_state_goes_on_between_calls(rng):
    net, x = SpeechNet(), torch.randn(2, 60, 41, generator=rng)
    whole = net(x, net.begin(2))[0]
    first, state = net(x[:, :22], net.begin(2))
    rest = net(x[:, 22:], state)[0]
    torch.testing.assert_close(torch.cat([first, rest], 1), whole, atol=1e-5, rtol=0)
    assert whole.shape[1] == 30


def test_it_looks_back_only(rng):
    net, x = SpeechNet(), torch.randn(1, 60, 41, generator=rng)
    y = x.clone()
    y[:, 40:] += 1
    a, b = (net(z, net.begin(1))[0] for z in (x, y))
    torch.testing.assert_close(a[:, :20], b[:, :20], atol=0, rtol=0)
    assert float((a[:, 20:] - b[:, 20:]).detach().abs().max()) > 1e-3


def test_curves_go_to_both_sides():
    out = spread(torch.eye(len(CURVES)))
    row = CURVES.index("mouthSmile")
    assert out[row, ARKIT_INDEX["mouthSmileLeft"]] == out[row, ARKIT_INDEX["mouthSmileRight"]] == 1
    assert float(out[row].sum()) == 2 and float(out[CURVES.index("jawOpen")].sum()) == 1


def test_file_is_small_and_tells_its_recipe():
    from safetensors import safe_open

    path = WEIGHTS / NETWORKS["speech_motion"].file
    assert path.stat().st_size < 10e6
    with safe_open(path, framework="pt") as file:
        header = file.metadata()["avatar3d"]
    for word in ("tools/train_speech.py", "--seed", "synthetic speech", "human speech", "CC-BY-SA-3.0", "hama"):
        assert word in header
    assert LOOKAHEAD * ROW / 16000 <= 0.1
