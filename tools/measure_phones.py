"""How well phones are found in sound: forced alignment (words known) and recognition (words unknown) against the truth
that synthesised speech brings along.

    python tools/measure_phones.py [VOICE...]

For each voice: share of true phones that are found (same articulatory class, in order), median and 90th percentile of
the error of their middles in milliseconds, and the closure rate: share of true p, b, m inside which the lips of
`articulate(found phones)` come within 1 mm, beside the share of open vowels with lips closed in the middle.
"""

import difflib
import sys
from collections.abc import Sequence

import numpy as np
import torch
from scipy.signal import resample_poly

from avatar3d.drive.speech import RATE, Phone, articulate, articulations, lip_gap, synthesize
from avatar3d.drive.speech.align import align
from avatar3d.drive.speech.recognise import recognise

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "My mother put the blue paper on the big table by the window.",
    "People who live in glass houses should never throw stones at passing boats.",
    "She bought five pounds of butter and a bag of apples from the farmer's market.",
    "Bob, my happy baby found two big brown maps.",
    "The remarkable problem became simpler when they improved the pump.",
)


def measure(found: Sequence[Phone], truth: Sequence[Phone], duration: float) -> dict[str, list[float]]:
    """Errors of one utterance."""
    place = [articulations(p.symbol)[0] for p in truth]
    true = [p for p in truth if p.symbol != "_"]
    heard = [p for p in found if p.symbol != "_"]
    a, b = ([articulations(p.symbol)[0].place for p in phones] for phones in (true, heard))
    late = []
    for i, j, n in difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
        late += [0.5 * (heard[j + k].start + heard[j + k].end - true[i + k].start - true[i + k].end) for k in range(n)]
    gap = lip_gap(articulate(found, duration)).numpy()
    times = (np.arange(len(gap)) + 0.5) / RATE
    closed, stuck = [], []
    for phone, what in zip(truth, place, strict=True):
        middle = int(np.argmin(np.abs(times - 0.5 * (phone.start + phone.end))))
        inside = (times >= phone.start) & (times < phone.end)
        inside[middle] = True
        if what.closes:
            closed.append(float(gap[inside].min() < 1))
        if what.place == "vowel" and what.height < 0.4:
            stuck.append(float(gap[middle] < 1))
    return {"late": late, "found": [len(late) / len(true)], "closed": closed, "stuck": stuck}


def main(voices: Sequence[str]) -> None:
    torch.set_num_threads(1)
    for voice in voices:
        pooled: dict[str, dict[str, list[float]]] = {}
        for text in SENTENCES:
            speech = synthesize(text, voice=voice)
            sound = torch.from_numpy(resample_poly(speech.samples.numpy(), 16000, speech.rate).astype(np.float32))
            for name, found in {
                "truth": speech.phones,
                "align": align(sound, text),
                "recognise": recognise(sound),
            }.items():
                for key, values in measure(found, speech.phones, speech.duration).items():
                    pooled.setdefault(name, {}).setdefault(key, []).extend(values)
        for name, values in pooled.items():
            late = 1000 * np.array(values["late"])
            print(
                f"{voice:12s} {name:10s} found {np.mean(values['found']):.3f}  bias {np.median(late):+5.0f} ms  "
                f"error {np.median(np.abs(late)):4.0f} ms, p90 {np.quantile(np.abs(late), 0.9):4.0f} ms  "
                f"closure {np.mean(values['closed']):.3f} of {len(values['closed'])}  "
                f"closed open vowels {np.mean(values['stuck']):.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:] or ("flite:slt", "flite:rms", "espeak-ng", "piper:joe"))
