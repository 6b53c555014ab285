"""Sound: resampling, mixing, alignment."""

import wave

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from avatar3d.errors import CaptureError
from avatar3d.sound import load_audio


def write_wav(path, samples: np.ndarray, rate: int):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def test_stereo_is_mixed_and_resampled(tmp_path):
    t = np.arange(44100) / 44100
    path = write_wav(tmp_path / "a.wav", np.stack([0.4 * np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], 1), 44100)
    sound = load_audio(path)
    assert sound.shape == (16000,) and sound.dtype == torch.float32
    expected = 0.2 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(sound.numpy()[200:-200], expected[200:-200], atol=2e-3)


def test_start_pads_or_cuts(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.linspace(0, 0.5, 8000)[:, None], 16000)
    sound = load_audio(path)
    torch.testing.assert_close(load_audio(path, start=0.1), sound[1600:])
    torch.testing.assert_close(load_audio(path, start=-0.1), torch.cat([torch.zeros(1600), sound]))


def test_same_sentence_at_two_rates(data):
    a = load_audio(data("audio/nvidia_Claire_sadness.wav"))
    b = load_audio(data("audio/nvidia_Claire_sadness_44.1k.wav"))
    assert len(b) == pytest.approx(len(a), rel=0.01) and 5.1 < len(a) / 16000 < 5.4
    n = min(len(a), len(b))
    correlation = torch.fft.irfft(torch.fft.rfft(a[:n], 2 * n).conj() * torch.fft.rfft(b[:n], 2 * n))
    peak = float(correlation.max() / (a[:n].norm() * b[:n].norm()))
    assert peak > 0.95


@pytest.mark.parametrize(
    "name, seconds",
    [
        ("audio/sadtalker_eluosi_24bit.wav", 6.2),
        ("audio/voca_test_sentence_22k.wav", 5.1),
        ("videos/phone_selfie_smile.mp4", 2.4),
    ],
)
def test_kinds_of_files(data, name, seconds):
    sound = load_audio(data(name))
    assert len(sound) / 16000 == pytest.approx(seconds, abs=0.06)
    assert 0.001 < float(sound.abs().max()) <= 1.2


def test_no_sound(tmp_path, data):
    (tmp_path / "a.wav").write_bytes(b"nothing")
    with pytest.raises(CaptureError, match="cannot be read as sound"):
        load_audio(tmp_path / "a.wav")
    with pytest.raises(CaptureError, match="has no sound"):
        load_audio(data("videos/facestab_a_input_DERIVED.mp4"))


@pytest.mark.parametrize("channels", [1, 8, 12])
def test_any_number_of_channels(tmp_path, channels):
    t = np.arange(9600) / 48000
    tones = np.stack([0.5 * np.sin(2 * np.pi * 300 * t) * (c == 0) for c in range(channels)], 1)
    sound = load_audio(write_wav(tmp_path / "a.wav", tones, 48000))
    expected = 0.5 / channels * np.sin(2 * np.pi * 300 * np.arange(3200) / 16000)
    np.testing.assert_allclose(sound.numpy()[100:-100], expected[100:-100], atol=2e-3)


def test_samples_that_are_not_numbers_are_silence(tmp_path):
    samples = np.full(1600, 0.25, np.float32)
    samples[400:420] = np.nan
    samples[500] = np.inf
    wavfile.write(tmp_path / "a.wav", 16000, samples)
    sound = load_audio(tmp_path / "a.wav")
    assert torch.isfinite(sound).all() and sound[410] == 0 and sound[500] == 0 and sound[600] == 0.25
