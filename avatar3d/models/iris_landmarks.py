"""Where the landmarks of irises lie: about the middle of a model's own.

They are not left where pictures of a model have them. Drawn lids, whose edge the network takes for higher than it is,
draw its iris down; by a quarter of a radius before drawn heads had lashes, so that every gaze on real footage went up
by some six degrees.
"""

from dataclasses import replace

import torch

from avatar3d import ops
from avatar3d.geometry.surface import points_on_faces
from avatar3d.models.linear import LandmarkEmbedding, LinearModel
from avatar3d.models.paint import eye_zones
from avatar3d.types.face_points import IRIS
from avatar3d.typing import typed

LOW = 0.1
"""Radii by which the network sets the middle below the pupil's: by eye in enlarged photographs and frames, where it is
between 0 and 0.29 on the dozen of eyes that show it."""


@typed
def centred_irises(model: LinearModel, learned: LandmarkEmbedding) -> LandmarkEmbedding:
    """The embedding with every iris' five points moved together, on the eyeball, such that their middle one is where
    the network sets it in photographs; unchanged for models without irises."""
    faces, weights = learned.faces.clone(), learned.weights.clone()
    places = points_on_faces(model.template, model.faces, faces, weights)
    for side, points in IRIS.items():
        zone, _ = eye_zones(model, side)
        if not zone.any():
            continue
        low, high = model.template[zone].amin(0), model.template[zone].amax(0)
        goal = (low + high) / 2
        goal[1] -= LOW * (high[1] - low[1]) / 2
        rows = list(points)
        shift = goal - places[points[0]]
        shift[2] = 0
        ball = torch.nonzero(model.regions[f"eyeball_{side}"][model.faces.long()].all(1))[:, 0]
        found = ops.nearest_on_mesh(places[rows] + shift, model.template, model.faces[ball])
        faces[rows], weights[rows] = ball[found.face].to(faces), found.barycentrics.to(weights)
    return replace(learned, faces=faces, weights=weights)
