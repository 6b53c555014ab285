"""capture .. export as one function each: what the commands and the five-line Python API run."""

from typing import TYPE_CHECKING

from avatar3d.lazy import look_up_later

if TYPE_CHECKING:
    from avatar3d.pipeline.fitting import QUALITY, FitSettings, fit, reconstruct, track
    from avatar3d.pipeline.judging import evaluate, score_pictures
    from avatar3d.pipeline.judging_motion import evaluate_motion
    from avatar3d.pipeline.scanning import FittedScan, fit_scan, reconstruct_scan
    from avatar3d.pipeline.speaking import (
        SpeechRequest,
        drive_by_speech,
        is_speech,
        save_speech,
        save_style,
        with_style,
    )
    from avatar3d.pipeline.stabilizing import StabilizeSettings, stabilize
    from avatar3d.pipeline.using import (
        RenderSettings,
        contact_sheet,
        demo_clip,
        drive,
        export,
        load_avatar,
        parse_face,
        render,
        resolve_motion,
    )
    from avatar3d.pipeline.viewing import view

__all__ = [
    "QUALITY",
    "FitSettings",
    "FittedScan",
    "RenderSettings",
    "SpeechRequest",
    "StabilizeSettings",
    "contact_sheet",
    "demo_clip",
    "drive",
    "drive_by_speech",
    "evaluate",
    "evaluate_motion",
    "export",
    "fit",
    "fit_scan",
    "is_speech",
    "load_avatar",
    "parse_face",
    "reconstruct",
    "reconstruct_scan",
    "render",
    "resolve_motion",
    "save_speech",
    "save_style",
    "score_pictures",
    "stabilize",
    "track",
    "view",
    "with_style",
]

_WHERE = {
    "fitting": ("QUALITY", "FitSettings", "fit", "reconstruct", "track"),
    "judging": ("evaluate", "score_pictures"),
    "judging_motion": ("evaluate_motion",),
    "scanning": ("FittedScan", "fit_scan", "reconstruct_scan"),
    "speaking": ("SpeechRequest", "drive_by_speech", "is_speech", "save_speech", "save_style", "with_style"),
    "stabilizing": ("StabilizeSettings", "stabilize"),
    "using": (
        "RenderSettings",
        "contact_sheet",
        "demo_clip",
        "drive",
        "export",
        "load_avatar",
        "parse_face",
        "render",
        "resolve_motion",
    ),
    "viewing": ("view",),
}

look_up_later(__name__, {name: f"{__name__}.{module}:{name}" for module, names in _WHERE.items() for name in names})
