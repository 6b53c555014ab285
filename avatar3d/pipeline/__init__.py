"""capture .. export as one function each: what the commands and the five-line Python API run."""

from avatar3d.pipeline.fitting import QUALITY, FitSettings, fit, reconstruct, track
from avatar3d.pipeline.judging import evaluate, score_pictures
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
    "RenderSettings",
    "contact_sheet",
    "demo_clip",
    "drive",
    "evaluate",
    "export",
    "fit",
    "load_avatar",
    "parse_face",
    "reconstruct",
    "render",
    "resolve_motion",
    "score_pictures",
    "track",
    "view",
]
