"""`perform` and `Performer`: length, blocks, memory, mouths that are kept, closures under emotion."""

import math
import tracemalloc

import pytest
import torch
from made_voices import RATE, talk

from avatar3d.drive.speech.perform import FrameClock, joined, perform
from avatar3d.drive.speech.performer import STREAM_AHEAD, Performer
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.drive.speech.style import Style
from avatar3d.types import ARKIT_INDEX

JAW = ARKIT_INDEX["jawOpen"]


def babble(rows):
    mouth = torch.zeros(rows, 52)
    mouth[:, JAW] = 0.2 + 0.2 * torch.sin(torch.arange(rows) / 3)
    return mouth


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, 29.97, 50.0, 60.0])
@pytest.mark.parametrize("samples", [1, 319, 16000, 16001, 37777])
def test_motion_is_as_long_as_the_sound(fps, samples):
    motion = perform(babble(-(-samples // 320)), torch.zeros(samples), fps=fps)
    assert motion.frames == max(1, math.ceil(samples / RATE * fps - 5e-3)) and motion.fps == fps
    assert bool(motion.expression.isfinite().all())


def test_no_sound_and_no_mouth():
    assert perform(torch.zeros(0, 52), torch.zeros(0)).frames == 1
    assert perform(torch.zeros(0, 52), torch.zeros(RATE)).frames == 30


def test_frames_stand_at_their_times():
    """A ramp over the rows' times comes out as the same ramp over the frames'."""
    clock = FrameClock(30.0, 1)
    times = (torch.arange(500) + 0.5) / 50
    pieces = [clock.push(part[:, None]) for part in times.split([1, 7, 92, 400])] + [clock.flush(300)]
    frames = torch.cat(pieces)[:, 0]
    assert len(frames) == 300 and clock.frames == 300
    torch.testing.assert_close(frames[1:], (torch.arange(300) / 30)[1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("ahead", [8, STREAM_AHEAD])
def test_blocks_do_not_matter(ahead):
    sound, mouth = talk(6), babble(300)
    settings = SpeechSettings(emotion="auto", seed=4)

    def run(size):
        performer, out = Performer(settings, ahead=ahead), []
        for at in range(0, 300, size):
            out.append(joined(performer.push(mouth[at : at + size], sound[at * 320 : (at + size) * 320])))
        return torch.cat([*out, joined(performer.flush())])

    whole = run(300)
    assert len(whole) == 300
    torch.testing.assert_close(run(1), whole)
    torch.testing.assert_close(run(37), whole)


def test_streaming_waits_for_nothing():
    performer, mouth, sound = Performer(ahead=STREAM_AHEAD), babble(100), talk(2)
    for i in range(100):
        assert len(performer.push(mouth[i : i + 1], sound[i * 320 : (i + 1) * 320]).expression) == 1


def test_mouth_is_kept_where_nothing_is_felt():
    mouth, sound = babble(200), talk(4)
    motion = perform(mouth, sound, SpeechSettings(breathing=0.0), closed=torch.zeros(200), fps=50)
    # frame k stands between rows k - 1 and k
    torch.testing.assert_close(motion.expression[1:, JAW], (mouth[:-1, JAW] + mouth[1:, JAW]) / 2, rtol=0, atol=1e-5)


def test_gain_and_style_of_the_mouth():
    mouth, sound, free = babble(100), talk(2), torch.zeros(100)
    mouth[:, ARKIT_INDEX["mouthStretchLeft"]] = mouth[:, ARKIT_INDEX["mouthStretchRight"]] = 0.2

    def curve(name, **settings):
        motion = perform(mouth, sound, SpeechSettings(**settings), closed=free, fps=50)
        return float(motion.expression[1:-1, ARKIT_INDEX[name]].mean())

    assert curve("jawOpen", mouth=0.5) == pytest.approx(0.5 * curve("jawOpen"), rel=1e-3)
    lopsided = {"style": Style(asymmetry=0.3, jaw=1.5)}
    assert curve("mouthStretchLeft", **lopsided) == pytest.approx(1.3 * 0.2, rel=1e-3)
    assert curve("mouthStretchRight", **lopsided) == pytest.approx(0.7 * 0.2, rel=1e-3)
    assert curve("jawOpen", **lopsided) > 1.3 * curve("jawOpen")


def test_memory_does_not_grow():
    sound, mouth = talk(4), babble(200)

    def peak(times):
        performer, clock = Performer(), FrameClock(30.0, 58)
        performer.push(mouth[:50], sound[:16000])
        tracemalloc.start()
        for _ in range(times):
            clock.push(joined(performer.push(mouth, sound)))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1)
    assert peak(5) < 1.2 * peak(2)


def test_half_an_hour_does_not_drift():
    """Rows and frames are counted in whole numbers: the last of 54000 frames stands where it should."""
    clock = FrameClock(30.0, 1)
    count = 30 * 60 * 50
    frames = [clock.push(part[:, None]) for part in ((torch.arange(count, dtype=torch.float64) + 0.5) / 50).split(777)]
    frames = torch.cat([*frames, clock.flush(30 * 60 * 30)])[:, 0]
    assert len(frames) == 54000 and abs(float(frames[-1]) - 53999 / 30) < 1e-9


def test_description_is_acted():
    sound = talk(3)
    motion = perform(babble(150), sound, SpeechSettings(description="wearily, with a forced smile", blinks=0.0), fps=50)
    mean = motion.expression.mean(0)
    assert mean[ARKIT_INDEX["mouthSmileLeft"]] > 0.3 and mean[ARKIT_INDEX["eyeBlinkLeft"]] > 0.25
    assert mean[ARKIT_INDEX["cheekSquintLeft"]] < 0.02  # forced: the cheeks do not join in


def test_real_speech_of_every_kind_stays_within_bounds(data):
    from avatar3d.sound import load_audio

    folder = data("audio")
    for path in sorted(folder.iterdir())[::4]:
        samples = load_audio(path)
        motion = perform(torch.zeros(-(-len(samples) // 320), 52), samples, SpeechSettings(emotion="auto"))
        assert motion.frames == math.ceil(len(samples) / RATE * 30 - 5e-3)
        assert bool(motion.expression.isfinite().all()) and 0 <= motion.expression.min() <= motion.expression.max() <= 1
        assert motion.rotations["head"].norm(dim=1).max() < 0.3
