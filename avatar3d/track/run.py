"""The stage as a whole: a capture and a model to a `Track`."""

from collections.abc import Callable
from dataclasses import replace

from avatar3d.models.linear import LinearModel
from avatar3d.track.advice import advice, notes
from avatar3d.track.calibration import calibrated, moved
from avatar3d.track.config import TrackConfig
from avatar3d.track.footage import Face, Progress, find_face
from avatar3d.track.look import NewShot
from avatar3d.track.skin_pictures import pictures_of
from avatar3d.track.slices import Slices
from avatar3d.track.solve import track_landmarks
from avatar3d.types.capture import Capture
from avatar3d.types.track import Track
from avatar3d.typing import typed


@typed
def track(
    capture: Capture,
    model: LinearModel,
    config: TrackConfig | None = None,
    *,
    face: Face = None,
    new_shot: NewShot | None = None,
    slices: Slices | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Track:
    """Follows one person's head through footage, from one photo to any number of frames, and fits a model to it.

    Every view is decoded once. Memory grows by 4 kB a frame.

    Args:
        capture: The footage.
        model: The head model; it needs an embedding of the 478 landmarks.
        config: Settings; the defaults if None.
        face: Whom to follow where there are several: a rank (0 is the largest and steadiest), or a point in pixels.
        new_shot: Makes what finds cuts; see `capture.CutDetector`. Without it footage is taken for one shot.
        slices: Where detections are kept while footage is looked through, so that a killed run goes on.
        progress: Called with stage, done, total.
        say: Called with what a person must know: several faces, cuts, dropped frames, unknown focal length.

    Returns:
        The track; its `report` holds what `--report` prints about tracking.

    Raises:
        DetectionError: no face, or not the one that was asked for.
        ValueError: the model has no landmarks.
    """
    config = config or TrackConfig()
    found = find_face(capture, face=face, new_shot=new_shot, slices=slices, progress=progress, say=say)
    solving = None if progress is None else (lambda share: progress("solve", round(1000 * share), 1000))
    seen = calibrated(found.detections, model)
    pictures = pictures_of(capture, found.detections.camera)
    result = track_landmarks(seen, model, config, pictures=pictures, progress=solving)
    words = notes(found, result)
    for line in words if say is not None else ():
        say(line)
    report = {
        **result.report,
        "faces": {"seen": found.faces, "followed": found.followed},
        "calibration": {"median": moved(found.detections.landmarks, seen.landmarks)},
        "advice": advice(found, result),
        "notes": words,
    }
    return replace(result, report=report)
