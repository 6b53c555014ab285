"""Speech with phone times from the programs that are installed; each test skips where its voice is not."""

import shutil
from unicodedata import normalize

import numpy as np
import pytest
import torch

from avatar3d.drive.speech import RATE, articulate, articulations, close_lips, closures, lip_gap, synthesize, voices
from avatar3d.drive.speech.phones import PLACE_OF, VOWELS
from avatar3d.errors import AvatarError, DependencyError
from avatar3d.types.arkit import ARKIT_INDEX

SENTENCES = (
    "Bob, my happy baby found two big brown maps.",
    "The remarkable problem became simpler when they improved the pump.",
)
HELD_OUT = ("flite:slt", "flite:rms", "piper:joe")  # amplitudes and times were set without them
needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="the program espeak-ng is not installed")


def need(voice: str) -> None:
    if voice not in voices():
        pytest.skip(f"the voice {voice} is not installed")


@pytest.mark.parametrize("voice", ["espeak-ng", *HELD_OUT])
def test_phones_cover_the_sound_in_order(voice):
    need(voice)
    speech = synthesize(SENTENCES[0], voice=voice)
    assert speech.rate in (8000, 16000, 22050) and speech.samples.abs().max() > 0.05
    ends = [0.0] + [p.end for p in speech.phones]
    for phone, before in zip(speech.phones, ends, strict=False):
        assert phone.end > phone.start
        assert phone.start == pytest.approx(before, abs=1e-6)
    assert speech.phones[-1].end == pytest.approx(speech.duration, abs=0.03)
    closing = [p.symbol[0] for p in speech.phones if articulations(p.symbol)[0].closes]
    assert closing == list("bbmpbbbbmp")


@pytest.mark.parametrize("voice", ["espeak-ng", *HELD_OUT])
def test_silence_is_where_the_phones_say(voice):
    need(voice)
    speech = synthesize("Some sound. More sound.", voice=voice)
    power = {"_": [], "vowel": []}
    for phone in speech.phones:
        kind = "_" if phone.symbol == "_" else articulations(phone.symbol)[0].place
        if kind in power and phone.end - phone.start > 0.04:
            inside = speech.samples[int((phone.start + 0.01) * speech.rate) : int((phone.end - 0.01) * speech.rate)]
            power[kind].append(float(inside.square().mean().sqrt()))
    assert power["_"] and np.median(power["_"]) < 0.05 * np.median(power["vowel"])


@pytest.mark.parametrize("voice", HELD_OUT)
@pytest.mark.parametrize("smile", [0.0, 1.0])
def test_lips_close_in_held_out_voices(voice, smile):
    need(voice)
    met, stuck = [], []
    for text in SENTENCES:
        speech = synthesize(text, voice=voice, speed=1.2)
        curves = articulate(speech.phones, speech.duration)
        for side in ("Left", "Right"):
            curves[:, ARKIT_INDEX[f"mouthSmile{side}"]] += smile
        gap = lip_gap(close_lips(curves.clamp(max=1), closures(speech.phones, speech.duration)))
        times = (torch.arange(len(gap)) + 0.5) / RATE
        for phone in speech.phones:
            part = articulations(phone.symbol)[0]
            middle = int((times - 0.5 * (phone.start + phone.end)).abs().argmin())
            inside = (times >= phone.start) & (times < phone.end)
            inside[middle] = True
            if part.closes:
                met.append(float(gap[inside].min()) < 1.0)
            if part.place == "vowel" and part.height < 0.4 and smile == 0:
                stuck.append(float(gap[middle]) < 1.0)
    assert len(met) >= 15 and np.mean(met) >= 0.95
    assert not any(stuck)


@needs_espeak
def test_stops_begin_with_their_closure():
    speech = synthesize("apple", voice="espeak-ng")
    p = next(p for p in speech.phones if p.symbol == "p")
    rate = speech.rate
    hold = speech.samples[int((p.start + 0.005) * rate) : int((p.start + 0.025) * rate)]
    assert p.end - p.start > 0.05
    assert float(hold.abs().max()) < 0.05 * float(speech.samples.abs().max())


@needs_espeak
@pytest.mark.parametrize(
    "language, text",
    [
        ("de", "Die Brücke führt über den Fluss, bitte."),
        ("fr", "Un bon vin blanc, peut-être."),
        ("es", "El perro bebe agua."),
        ("ru", "Мама мыла раму."),
        ("ja", "こんにちは、まつり"),
        ("zh", "ni3 hao3 ma5"),
        ("it", "Buona sera a tutti."),
        ("hi", "नमस्ते मित्र"),
        ("ar", "مرحبا بكم"),
    ],
)
def test_other_languages(language, text):
    speech = synthesize(text, language=language)
    spoken = [p for p in speech.phones if p.symbol != "_"]
    assert len(spoken) >= 6
    for phone in spoken:
        parts = articulations(phone.symbol)
        assert parts[0].place != "silence"
        assert any(c in PLACE_OF or c in VOWELS for c in normalize("NFD", phone.symbol)), phone.symbol
    curves = articulate(speech.phones, speech.duration)
    assert torch.isfinite(curves).all() and lip_gap(curves).max() > 3


@needs_espeak
def test_chinese_characters_are_spoken():
    pytest.importorskip("pypinyin", reason="the package pypinyin is not installed")
    speech = synthesize("妈妈你好", language="zh")
    assert [p.symbol[0] for p in speech.phones if p.symbol[0] in "mn"] == ["m", "m", "n"]


@needs_espeak
def test_kanji_are_spoken():
    pytest.importorskip("janome", reason="the package janome is not installed")
    kanji, kana = (synthesize(text, language="ja").phones for text in ("世界の天気", "セカイノテンキ"))
    assert [p.symbol for p in kanji] == [p.symbol for p in kana]


@needs_espeak
def test_scripts_without_their_package_say_so(monkeypatch):
    monkeypatch.setattr("avatar3d.drive.speech.synthesis.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"janome.*\n?.*avatar3d\[speech\]"):
        synthesize("世界", language="ja")
    with pytest.raises(DependencyError, match="pypinyin"):
        synthesize("世界", language="zh")


@needs_espeak
def test_speed_pitch_and_stress():
    slow, fast = (synthesize("a banana", speed=s) for s in (0.7, 1.5))
    assert slow.duration > 1.4 * fast.duration
    low, high = (synthesize("a banana", pitch=p).samples for p in (0.6, 1.6))
    assert not torch.equal(low[:1000], high[:1000])
    stress = [p.stress for p in synthesize("banana").phones if articulations(p.symbol)[0].place == "vowel"]
    assert stress.count(2) == 1 and stress.index(2) == 1
    assert {p.word for p in synthesize("red apples").phones if p.symbol != "_"} == {"red", "apples"}


def test_bad_calls():
    with pytest.raises(ValueError, match="empty"):
        synthesize("  ")
    with pytest.raises(ValueError, match="speed=9"):
        synthesize("hello", speed=9)
    with pytest.raises(ValueError, match="expected auto"):
        synthesize("hello", voice="siri")
    with pytest.raises(AvatarError, match="English only"):
        synthesize("bonjour", voice="flite", language="fr")
    with pytest.raises(ValueError, match="one pitch"):
        synthesize("hello", voice="piper", pitch=1.2)


@needs_espeak
def test_a_voice_that_is_not_there():
    with pytest.raises(AvatarError, match="no voice 'qqq'"):
        synthesize("hello", language="qqq")


def test_missing_programs_say_what_to_install(monkeypatch):
    monkeypatch.setattr("avatar3d.drive.speech.synthesis.shutil.which", lambda name: None)
    with pytest.raises(AvatarError, match="apt install flite"):
        synthesize("hello", voice="flite")
    assert voices() == ()
