"""What articulation from phones is worth: closures in whole motions from text, and lips against tracked ones.

    python tools/measure_articulation.py closures [VOICE...]
    python tools/measure_articulation.py heard [VOICE...] [--hear network|recogniser|stream]
    python tools/measure_articulation.py lips DATA [--tracks FOLDER]

`closures`: sentences of each voice through `from_text`'s motion at 30 frames a second, plain and with an emotion; share
of p, b, m within 1 mm inside the phone, and open vowels whose middle is shut. `heard`: the same where the sound alone
is given, heard as files are (`network`, `recogniser`) or as microphones (`stream`); vowels of 60 ms or more; besides,
middles of other consonants and of f and v that have no p, b, m beside them, where lips come within 1 mm; and the sum of
mouthPucker and mouthFunnel in rounded sounds, as a share of what co-articulation of the known phones gives. `lips`:
recognised phones of the clips of `tools/speech_table.py` (DATA is the test data), as `articulate` and as a plain table
with the same targets, and the loudness alone: correlation of the lip opening with the tracked one as it is, at the best
shift within 300 ms, and that shift (positive: what comes from the sound is late, the picture ahead).
"""

import argparse
from collections import Counter
from pathlib import Path

import torch
from speech_table import pairs

from avatar3d.drive.speech import RATE, Speech, articulate, articulations, synthesize
from avatar3d.drive.speech.baseline import plain_visemes
from avatar3d.drive.speech.from_speech import from_speech
from avatar3d.drive.speech.from_text import act
from avatar3d.drive.speech.recognise import recognise
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.drive.speech.stream import SpeechStream
from avatar3d.evaluate.speech_motion import (
    closure_rate,
    compare,
    lip_opening,
    loudness_motion,
    mean_scores,
    sampled_at,
)
from avatar3d.types import ARKIT_INDEX, Motion

SENTENCES = (
    "Bob, my happy baby found two big brown maps.",
    "Peter Piper picked a peck of pickled peppers.",
    "My mother and her mum may make some lemon jam tomorrow morning.",
    "The remarkable problem became simpler when they improved the pump.",
    "I am number five of maybe fifty employees; please be patient.",
)
MORE = (
    "My mother bought a big brown bag of plump apples and maple pepper.",
    "The happy baby bumped the table, and Bob mopped up the milk.",
    "People in Mumbai prefer mobile banking, but many remember paper money.",
    "Five very famous violinists have left for Vienna before February.",
)
HEARD = ("espeak-ng:f4", "espeak-ng:klatt4", "espeak-ng:david", "flite:slt", "piper:joe")
"""The first three are not among the voices that the network has learnt from."""
ROUND = [ARKIT_INDEX["mouthPucker"], ARKIT_INDEX["mouthFunnel"]]
VOICES = ("flite:slt", "flite:rms", "flite:awb", "piper:joe")


def counted(speeches: list[Speech], motions: list[Motion], shortest: float) -> Counter:
    """How many p, b, m there are and are met; how many open vowels, of so many seconds or more, and are shut; the same
    of other consonants, and of f and v; and how rounded rounded sounds are, and should be."""
    out = Counter()
    for speech, motion in zip(speeches, motions, strict=True):
        parts = [(p, articulations(p.symbol)[0]) for p in speech.phones]
        spans = [(p.start, p.end) for p, a in parts if a.closes]
        out += Counter(met=round(closure_rate(motion, spans) * len(spans)), of=len(spans))
        wanted = Motion(fps=float(RATE), expression=articulate(speech.phones, speech.duration))
        for i, (p, a) in enumerate(parts):
            beside = any(b.closes for _, b in parts[max(i - 1, 0) : i + 2])
            if a.place == "silence" or a.closes:
                continue
            middle = torch.tensor([0.5 * (p.start + p.end)], dtype=torch.float64)
            made = sampled_at(motion.expression, motion.fps, middle)
            shut = int(lip_opening(made) < 1)
            if a.place == "vowel" and a.height < 0.4 and p.end - p.start >= shortest:
                out += Counter(shut=shut, vowels=1)
            if not beside and a.place in ("labiodental", "bilabial_fricative"):
                out += Counter(teeth_shut=shut, teeth=1)
            elif not beside and a.place not in ("vowel", "labiovelar"):
                out += Counter(others_shut=shut, others=1)
            if a.rounding > 0.4 and p.end - p.start >= shortest:
                goal = sampled_at(wanted.expression, wanted.fps, middle - 0.5 / RATE)
                out["round"] += float(made[0, ROUND].sum())
                out["round_goal"] += float(goal[0, ROUND].sum())
    return out


def told(n: Counter) -> str:
    """Of `counted`."""
    return (f"closed {n['met'] / n['of']:.3f} of {n['of']}  shut {n['shut']} of {n['vowels']}  other consonants "
            f"{n['others_shut']} of {n['others']}  f, v {n['teeth_shut']} of {n['teeth']}  rounding "
            f"{n['round'] / max(n['round_goal'], 1e-6):.2f}")  # fmt: skip


def closures(voices: list[str]) -> None:
    """Prints a row a voice and emotion."""
    for voice in voices or VOICES:
        speeches = [synthesize(text, voice=voice) for text in SENTENCES]
        for emotion in ("neutral", "happy:1", "angry:1"):
            motions = [act(speech, SpeechSettings(emotion=emotion), fps=30) for speech in speeches]
            print(f"{voice:16s} {emotion:8s} {told(counted(speeches, motions, 0))}", flush=True)


def heard(voices: list[str], hear: str) -> None:
    """Prints a row a voice, and all."""
    still, everything = SpeechSettings(head=0, blinks=0, gaze=0, brows=0, breathing=0, nonspeech=0), Counter()
    for voice in voices or HEARD:
        speeches = [synthesize(text, voice=voice) for text in (*SENTENCES, *MORE)]
        if hear == "stream":
            motions = [streamed(s, still) for s in speeches]
        else:
            motions = [from_speech(s.samples, rate=s.rate, fps=30, settings=still, hear=hear) for s in speeches]
        n = counted(speeches, motions, 0.06)
        everything += n
        print(f"{voice:16s} {told(n)}", flush=True)
    print(f"{'all':16s} {told(everything)}")


def streamed(speech: Speech, settings: SpeechSettings) -> Motion:
    """As a microphone would hear it, 20 ms at a time."""
    stream, piece = SpeechStream(settings=settings), speech.rate // 50
    parts = [stream.push(speech.samples[i : i + piece], speech.rate) for i in range(0, len(speech.samples), piece)]
    return Motion(fps=30.0, expression=torch.cat([m.expression for m in (*parts, stream.flush())]))


def lips(data: Path, tracks: Path | None) -> None:
    """Prints a row a clip, and the mean."""
    results: list[dict] = []
    for name, samples, (truth, fps) in pairs(data, tracks):
        phones, duration = recognise(samples), len(samples) / 16000
        motions = {
            "articulate": Motion(fps=float(RATE), expression=articulate(phones, duration)),
            "plain": Motion(fps=float(RATE), expression=plain_visemes(phones, duration)),
            "loudness": loudness_motion(samples, 16000),
        }
        results.append({key: compare(motion, truth, fps) for key, motion in motions.items()})
        found = {key: value["lips"] for key, value in results[-1].items()}
        cells = [
            f"{k} {x['correlation']:+.2f}, {x['best_correlation']:.2f} at {x['lag_ms']:+d}" for k, x in found.items()
        ]
        print(f"{name:28s} " + "   ".join(cells), flush=True)
    for kind in results[0]:
        mean = mean_scores([r[kind] for r in results])
        print(f"mean {kind}: {mean['correlation']:.2f}, {mean['best_correlation']:.2f}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("closures", "heard"):
        known = kinds.add_parser(kind)
        known.add_argument("voices", nargs="*")
        if kind == "heard":
            known.add_argument("--hear", choices=("network", "recogniser", "stream"), default="network")
    against = kinds.add_parser("lips")
    against.add_argument("data", type=Path)
    against.add_argument("--tracks", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.kind == "closures":
        closures(options.voices)
    elif options.kind == "heard":
        heard(options.voices, options.hear)
    else:
        lips(options.data, options.tracks)


if __name__ == "__main__":
    main()
