"""Footage to a parametric head in motion."""

from avatar3d.track.config import TrackConfig
from avatar3d.track.detections import Detections, Lens
from avatar3d.track.run import track
from avatar3d.track.solve import track_landmarks

__all__ = ["Detections", "Lens", "TrackConfig", "track", "track_landmarks"]
