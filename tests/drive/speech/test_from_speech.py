"""Sound to motion: still where nobody speaks, the same in pieces as whole, at any rate and in constant memory."""

import math
import time
import tracemalloc

import numpy as np
import pytest
import torch

from avatar3d.drive import SpeechSettings, SpeechStream, from_speech
from avatar3d.drive.speech.mouth import Mouth
from avatar3d.evaluate.speech_motion import lip_opening
from avatar3d.nets.speech_motion import LOOKAHEAD, ROW, SpeechMotionNet
from avatar3d.sound import load_audio, resample_audio
from avatar3d.types import ARKIT_NAMES

STILL = SpeechSettings(head=0, blinks=0, gaze=0, brows=0, breathing=0, nonspeech=0)
MOUTH = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith(("jaw", "mouth", "tongue"))]
SOUNDS = (
    "emotalk_angry1.wav", "emotalk_disgust.wav", "emotalk_fearful.wav", "emotalk_happy.wav",
    "librispeech_116-288045-0000.flac", "librispeech_116-288045-0001.m4a", "multitalk_Russian.wav",
    "nvidia_Claire_anger.wav", "nvidia_Claire_joy_mandarin.wav", "nvidia_Claire_neutral.wav",
    "nvidia_Claire_outofbreath_mandarin.wav", "nvidia_Claire_sadness.wav", "nvidia_Claire_sadness_44.1k.wav",
    "sadtalker_chinese_poem1.wav", "sadtalker_eluosi_24bit.wav", "sadtalker_singing.wav", "voca_test_sentence_22k.wav",
)  # fmt: skip


@pytest.fixture(scope="module")
def speech():
    """Two seconds of vowels that glide into one another under a falling voice, with some hiss between them."""
    rng, count = np.random.default_rng(0), 32000
    t = np.arange(count) / 16000
    pitch = 125 * (1 - 0.06 * t) * (1 + 0.12 * np.sin(2 * np.pi * 1.3 * t))
    sound = np.diff(np.floor(np.cumsum(pitch) / 16000), prepend=0) + 0.004 * rng.standard_normal(count)
    vowels = np.array([(730, 1090, 2440), (270, 2290, 3010), (570, 840, 2410), (530, 1840, 2480)])  # a i o e
    tilt = [np.zeros(count) + 0.96]
    for formant, width in zip(vowels.T, (80, 100, 140), strict=True):
        hertz = np.interp(t, np.arange(9) / 4, formant[np.arange(9) % 4])
        r = math.exp(-math.pi * width / 16000)
        tilt.append(2 * r * np.cos(2 * np.pi * hertz / 16000))
    for k, first in enumerate(tilt):  # a pole, and three resonances
        second = -math.exp(-2 * math.pi * (80, 100, 140)[k - 1] / 16000) if k else 0.0
        before, last, out = 0.0, 0.0, []
        for x, c in zip(((1 - first - second) * sound).tolist(), first.tolist(), strict=True):
            before, last = last, x + c * last + second * before
            out.append(last)
        sound = np.array(out)
    beat = np.cos(2 * np.pi * 4 * t)
    hiss = np.diff(0.05 * rng.standard_normal(count) * (beat > 0.85), prepend=0)
    sound = sound / np.abs(sound).max() * np.clip(0.55 - 0.75 * beat, 0.02, 1) + hiss
    return torch.from_numpy(sound / np.abs(sound).max() * 0.5).float()


def moving(motion):
    return float(motion.expression[:, MOUTH].std(0).max())


@pytest.mark.parametrize("name", SOUNDS)
def test_every_recording_gives_bounded_motion(data, name):
    path = data(f"audio/{name}")
    motion = from_speech(path, settings=STILL)
    seconds = len(load_audio(path)) / 16000
    assert motion.frames == math.ceil(seconds * 30 - 1e-6)
    assert torch.isfinite(motion.expression).all()
    assert float(motion.expression.min()) >= 0 and float(motion.expression.max()) <= 1
    opening = lip_opening(motion.expression)
    assert float(opening.std()) > 0.8  # mm: it talks
    assert float(opening.max()) < 30
    assert float(opening.diff().abs().max()) < 15  # mm from frame to frame; tracked people reach 12


def test_silence_is_idle():
    motion = from_speech(torch.zeros(5 * 16000), settings=STILL)
    assert motion.frames == 150
    assert float(motion.expression[:, MOUTH].abs().max()) < 1e-3
    alive = from_speech(torch.zeros(5 * 16000))
    assert moving(alive) < 0.02 and float(alive.expression.std(0).max()) > 0.05  # blinks


@pytest.mark.parametrize("level", [0.001, 0.03, 0.3])
@pytest.mark.parametrize("colour", ["white", "brown", "hum"])
def test_noise_does_not_babble(colour, level):
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(5 * 16000)
    if colour == "brown":
        noise = np.cumsum(noise)
        noise -= np.convolve(noise, np.ones(800) / 800, "same")
    if colour == "hum":
        t = np.arange(len(noise)) / 16000
        noise = sum(np.sin(2 * np.pi * 50 * k * t) / k for k in range(1, 9)) + 0.02 * noise
    sound = torch.from_numpy(noise / noise.std() * level).float().clamp(-1, 1)
    opening = lip_opening(from_speech(sound, settings=STILL).expression)
    assert float(opening.mean()) < 0.5  # mm; lips open as far as tracked ones do
    assert float(opening[15:].max()) < 1  # a sound that begins may be a voice for half a second, no longer


def test_rate_of_the_recording_does_not_matter(data):
    low = from_speech(data("audio/nvidia_Claire_sadness.wav"), settings=STILL).expression
    high = from_speech(data("audio/nvidia_Claire_sadness_44.1k.wav"), settings=STILL).expression
    count = min(len(low), len(high))
    assert abs(len(low) - len(high)) <= 1
    difference = (low[:count] - high[:count]).square().mean().sqrt() / low[:count].square().mean().sqrt()
    assert float(difference) < 0.02


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_resampled_speech_gives_the_same_motion(speech, rate):
    direct = from_speech(speech, settings=STILL).expression
    other = from_speech(resample_audio(speech, 16000, rate), rate=rate, settings=STILL).expression
    count = min(len(direct), len(other))
    difference = (direct[:count] - other[:count]).square().mean().sqrt() / direct.square().mean().sqrt()
    assert float(difference) < 0.05


def streamed(sound, piece, rate=16000):
    stream = SpeechStream(settings=STILL)
    parts = [stream.push(sound[i : i + piece], rate).expression for i in range(0, len(sound), piece)]
    return torch.cat([*parts, stream.flush().expression])


@pytest.mark.parametrize("piece", [320, 500, 16000])
def test_pieces_give_the_mouth_of_the_whole(speech, piece):
    whole, joined = streamed(speech, len(speech)), streamed(speech, piece)
    assert len(joined) == len(whole) == 60
    torch.testing.assert_close(joined, whole, atol=1e-3, rtol=0)
    assert float(joined[:, MOUTH].std(0).max()) > 0.02


def test_streams_and_files_agree(data):
    samples = load_audio(data("audio/librispeech_116-288045-0000.flac"))
    stream, file = lip_opening(streamed(samples, 1600)), lip_opening(from_speech(samples, settings=STILL).expression)
    assert len(stream) == len(file)
    assert float(torch.corrcoef(torch.stack([stream, file]))[0, 1]) > 0.75


def test_pieces_at_another_rate(speech):
    sound = resample_audio(speech, 16000, 44100)
    joined, whole = streamed(sound, 1323, 44100), streamed(sound, len(sound), 44100)
    assert len(joined) == len(whole) == 60
    torch.testing.assert_close(joined, whole, atol=5e-3, rtol=0)
    stream = SpeechStream(settings=STILL)
    stream.push(sound[:100], 44100)
    with pytest.raises(ValueError, match="16000 samples per second after 44100; expected one positive rate"):
        stream.push(sound[:100], 16000)


def test_latency_is_under_150_ms(speech):
    # every frame is out when its own 20 ms piece and what the network looks ahead have gone in
    stream, worst = SpeechStream(settings=STILL), 0.0
    for i in range(0, len(speech), 320):
        before = stream.frames
        stream.push(speech[i : i + 320])
        # the oldest frame of this push could not come earlier: how old is it now?
        if stream.frames > before:
            worst = max(worst, stream.seconds - before / 30)
    assert 0.02 < worst < 0.15
    assert worst <= (LOOKAHEAD + 2) * ROW / 16000  # nothing else waits


def test_nothing_depends_on_what_comes_later(speech):
    # rows that are out stay what they are
    net, later = SpeechMotionNet(), SpeechMotionNet()
    first = net.push(speech[:16000]).curves
    changed = torch.cat([speech[:16000], 0.3 * torch.randn(16000, generator=torch.Generator().manual_seed(1))])
    again = later.push(changed).curves[: len(first)]
    torch.testing.assert_close(first, again, atol=1e-5, rtol=0)
    assert len(first) == 50 - LOOKAHEAD


def test_faster_than_a_tenth_of_real_time(speech):
    sound = speech.repeat(5)
    from_speech(sound[:16000])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        begun = time.process_time()
        from_speech(sound)
        spent = time.process_time() - begun
    finally:
        torch.set_num_threads(threads)
    assert spent < 0.1 * len(sound) / 16000


def test_memory_does_not_grow_with_time(speech):
    def peak(stream, seconds):
        tracemalloc.reset_peak()
        for _ in range(seconds // 2):
            for i in range(0, len(speech), 3200):
                stream.push(speech[i : i + 3200])
        return tracemalloc.get_traced_memory()[1]

    stream = SpeechStream()
    tracemalloc.start()
    try:
        early, late = peak(stream, 6), peak(stream, 12)
    finally:
        tracemalloc.stop()
    assert late < 1.2 * early + 200_000


def test_quiet_recordings_move_as_much(data):
    samples = load_audio(data("audio/librispeech_116-288045-0000.flac"))
    loud, quiet = (lip_opening(from_speech(g * samples, settings=STILL).expression) for g in (1.0, 0.1))
    assert float(quiet.mean()) == pytest.approx(float(loud.mean()), rel=0.1)


def test_phones_of_the_recogniser_can_be_used_instead(data):
    pytest.importorskip("hama")
    path = data("audio/librispeech_116-288045-0000.flac")
    network, phones = (from_speech(path, settings=STILL, hear=hear) for hear in ("network", "recogniser"))
    a, b = lip_opening(network.expression), lip_opening(phones.expression)
    assert network.frames == phones.frames
    assert float(torch.corrcoef(torch.stack([a, b]))[0, 1]) > 0.5  # two ways to hear the same
    assert from_speech(torch.zeros(16000), settings=STILL, hear="recogniser").frames == 30


def test_known_words_shut_the_lips_where_they_are_said(data):
    pytest.importorskip("pocketsphinx")
    from avatar3d.drive.speech.align import align

    path = data("audio/librispeech_116-288045-0000.flac")
    words = ("as I approached the city I heard bells ringing, and a little later I found the streets astir with "
             "throngs of well dressed people in family groups wending their way hither and thither")  # fmt: skip
    motion = from_speech(path, settings=STILL, words=words, fps=50)
    opening = lip_opening(motion.expression)
    phones = align(load_audio(path), words)
    shut = [opening[round(25 * (p.start + p.end))] for p in phones if p.symbol in "pbm"]
    open_ = [opening[round(25 * (p.start + p.end))] for p in phones if p.symbol in ("ɑ", "æ", "ɛ")]
    assert len(shut) >= 6 and len(open_) >= 6
    assert float(torch.stack(shut).max()) < 0.3 * float(torch.stack(open_).median())


def test_empty_sound_is_one_frame_of_rest():
    motion = from_speech(torch.zeros(0))
    assert motion.frames == 1 and torch.isfinite(motion.expression).all()
    assert SpeechStream().flush().frames == 0


def test_bad_values_are_refused(speech):
    with pytest.raises(ValueError, match="expected positive numbers"):
        from_speech(speech, rate=0)
    with pytest.raises(ValueError, match="expected positive numbers"):
        from_speech(speech, fps=0)
    with pytest.raises(ValueError, match="expected a positive rate"):
        SpeechStream(fps=-1)


def test_gate_opens_at_once_and_closes_slowly(speech):
    quiet = torch.zeros(16000)
    mouth = Mouth()
    rows = mouth.push(torch.cat([quiet, speech, quiet, quiet])).curves.abs().sum(1)
    assert float(rows[:40].max()) < 0.02
    assert float(rows[-40:].max()) < 0.02
