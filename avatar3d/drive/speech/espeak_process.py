"""Speaks one text with libespeak-ng and prints what it heard of itself: run as a program of its own, never imported.

espeak-ng tells phone times only through its library, and that is GPL-3: so it is loaded in this separate process,
which needs nothing but Python. In: a JSON object on stdin. Out: a line of JSON, then 16-bit samples.
"""

import ctypes
import ctypes.util
import json
import os
import sys

NAMES = ("libespeak-ng.so.1", "libespeak-ng.so", "libespeak-ng.1.dylib", "libespeak-ng.dylib", "espeak-ng.dll",
         "/opt/homebrew/lib/libespeak-ng.dylib", "/usr/local/lib/libespeak-ng.dylib",
         r"C:\Program Files\eSpeak NG\libespeak-ng.dll")  # fmt: skip
SYNCHRONOUS, PHONE_EVENTS, IPA, KEEP_GOING = 2, 1, 2, 1 << 15
WORD, PHONE, END = 1, 7, 0
UTF8 = 1
RATE, PITCH, RANGE = 1, 3, 4


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", ctypes.c_uint64),
    ]


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def load() -> ctypes.CDLL:
    for name in (os.environ.get("ESPEAK_LIBRARY"), *NAMES, ctypes.util.find_library("espeak-ng")):
        if name:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    sys.exit("no library")


def transcribe(library: ctypes.CDLL, text: str) -> str:
    """IPA with stress marks."""
    translate = library.espeak_TextToPhonemes
    translate.restype, translate.argtypes = ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    held = ctypes.c_char_p(text.encode())
    at = ctypes.c_void_p(ctypes.cast(held, ctypes.c_void_p).value)
    clauses = []
    while at.value:
        clauses.append((translate(ctypes.byref(at), UTF8, IPA) or b"").decode("utf-8", "ignore"))
    return " ".join(clauses)


def speak(request: dict) -> tuple[dict, bytes]:
    library = load()
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONE_EVENTS | IPA | KEEP_GOING)
    if rate <= 0:
        sys.exit("no data")
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        sys.exit("no voice")
    for parameter, key in ((RATE, "rate"), (PITCH, "pitch"), (RANGE, "range")):
        if key in request:
            library.espeak_SetParameter(parameter, int(request[key]), 0)
    sound, phones, words = [], [], []

    @CALLBACK
    def heard(samples, count, events):
        i = 0
        while events[i].type != END:
            event = events[i]
            if event.type == PHONE:
                name = ctypes.string_at(ctypes.addressof(event) + Event.id.offset, 8).split(b"\0")[0]
                phones.append([name.decode("utf-8", "ignore"), event.sample, event.position])
            elif event.type == WORD:
                words.append([event.position, event.length, event.sample])
            i += 1
        if samples and count > 0:
            sound.append(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(heard)
    text = request["text"].encode()
    library.espeak_Synth(text, len(text) + 1, 0, 0, 0, UTF8, None, None)
    library.espeak_Synchronize()

    ipa = [transcribe(library, clause) for clause in request.get("clauses", [request["text"]])]
    return {"rate": rate, "phones": phones, "words": words, "ipa": ipa}, b"".join(sound)


if __name__ == "__main__":
    header, pcm = speak(json.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + pcm)
