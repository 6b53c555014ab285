"""An avatar that speaks, as a picture: frames, the waveform under them, phones and curves; and the MP4 with its sound.

python tools/speech_filmstrip.py me.avatar OUT 'text:Hello!' --language en
python tools/speech_filmstrip.py me.avatar OUT hello.wav            # phones from `hama`, where it is installed

Writes OUT.png and OUT.mp4.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from avatar3d import pipeline, storage
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.errors import DependencyError
from avatar3d.export.film import Director, FilmSettings
from avatar3d.sound import load_audio
from avatar3d.types import ARKIT_INDEX

WIDTH, FRAME = 2000, 200
CURVES = {"jawOpen": "#c0392b", "mouthPucker": "#2471a3", "mouthClose": "#111111", "mouthFunnel": "#27ae60",
          "eyeBlinkLeft": "#b7950b", "browInnerUp": "#8e44ad"}  # fmt: skip


def strip(avatar, motion, frames):
    """Close pictures of the face, one for each frame number."""
    director = Director(avatar, motion, FilmSettings(size=2 * FRAME), None)
    out = []
    for picture in director.pictures([int(i) for i in frames]):
        h, w = picture.shape[:2]
        crop = Image.fromarray(picture[int(0.28 * h) : int(0.88 * h), int(0.2 * w) : int(0.8 * w)])
        out.append(np.asarray(crop.resize((FRAME, FRAME), Image.Resampling.LANCZOS)))
    return np.concatenate(out, 1)


def draw(avatar, motion, samples, rate, phones, start, end):
    """Frames, waveform with phones, curves, between two times."""
    count = WIDTH // FRAME
    times = start + (np.arange(count) + 0.5) * (end - start) / count
    frames = np.round(times[times < motion.duration] * motion.fps).astype(int).clip(0, motion.frames - 1)
    page = Image.new("RGB", (WIDTH, FRAME + 420), "white")
    page.paste(Image.fromarray(strip(avatar, motion, frames)), (0, 0))
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(17)

    def x_of(t):
        return (t - start) / (end - start) * WIDTH

    top, height = FRAME + 10, 120
    scale = max(1e-3, float(samples.abs().max()))
    edges = np.round(np.linspace(start * rate, end * rate, WIDTH + 1)).astype(int)
    for x, (first, last) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        piece = samples[first : last + 1]
        if len(piece):
            low, high = (float(v) / scale * height / 2 for v in (piece.min(), piece.max()))
            pen.line([(x, top + height / 2 - high), (x, top + height / 2 - low)], fill="#888888")
    for phone in phones:
        if start <= phone.start < end:
            pen.line([(x_of(phone.start), top), (x_of(phone.start), top + height + 24)], fill="#cccccc")
            if phone.symbol != "_":
                pen.text(
                    (x_of(phone.start) + 2, top + height + 2), phone.symbol, fill="black", font=_ipa_font() or font
                )
    low, size = FRAME + 170, 220
    grid = np.arange(int(start * motion.fps), min(motion.frames, int(end * motion.fps) + 1))
    for i, (name, colour) in enumerate(CURVES.items()):
        values = motion.expression[grid, ARKIT_INDEX[name]].numpy()
        pen.line([(x_of(t / motion.fps), low + size - v * size) for t, v in zip(grid, values, strict=True)],
                 fill=colour, width=3)  # fmt: skip
        pen.text((10 + 170 * i, low), name, fill=colour, font=font)
    for t in frames:
        pen.line([(x_of(t / motion.fps), FRAME), (x_of(t / motion.fps), FRAME + 8)], fill="black", width=3)
    return page


def _ipa_font():
    for name in ("DejaVuSans.ttf", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"):
        try:
            return ImageFont.truetype(name, 17)
        except OSError:
            continue
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("source")
    parser.add_argument("--language", default="en")
    parser.add_argument("--voice", default="auto")
    parser.add_argument("--emotion", default="neutral")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--row", type=float, default=1.6, help="seconds in each row of frames")
    parser.add_argument("--size", type=int, default=480)
    parser.add_argument("--no-film", action="store_true")
    wishes = parser.parse_args()
    avatar = pipeline.load_avatar(wishes.avatar)
    request = pipeline.SpeechRequest(settings=SpeechSettings(emotion=wishes.emotion, seed=wishes.seed),
                                     language=wishes.language, voice=wishes.voice)  # fmt: skip
    motion, speech = pipeline.drive_by_speech(wishes.source, request, say=print)
    output = wishes.out.with_suffix(".motion")
    motion = pipeline.save_speech(output, motion, speech)
    if speech is not None:
        samples, rate, phones = speech.samples, speech.rate, speech.phones
    else:
        samples, rate = load_audio(wishes.source.removeprefix("speech:"), 16000), 16000
        try:
            from avatar3d.drive.speech.recognise import recognise

            phones = recognise(samples)
        except DependencyError as error:
            print(error)
            phones = ()
    duration = len(samples) / rate
    pages = [
        draw(avatar, motion, samples, rate, phones, at, at + wishes.row)
        for at in np.arange(0, max(duration - 0.2, 0.1), wishes.row)
    ]
    sheet = Image.new("RGB", (WIDTH, sum(p.height for p in pages)), "white")
    at = 0
    for page in pages:
        sheet.paste(page, (0, at))
        at += page.height
    with storage.replacing(wishes.out.with_suffix(".png")) as temporary:
        sheet.save(temporary, format="png")
    if not wishes.no_film:
        settings = pipeline.RenderSettings(size=wishes.size)
        pipeline.render(avatar, wishes.out.with_suffix(".mp4"), motion=output, settings=settings)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
