"""Known truth from a model that the tracker does not fit with: ICT-FaceKit's heads."""

import pytest
import torch
from ict_cases import ict_with_landmarks
from truth_cases import detect, detections, neutral, pictures, surface_errors

from avatar3d import models
from avatar3d.evaluate.synthetic import ClipConfig, make_clip
from avatar3d.track import TrackConfig, track_landmarks

PEOPLE = ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (1.0, -1.0, 0.5), (-1.0, 0.5, 1.0))
"""Identities of the folder, and mixtures of them."""
CONFIG = ClipConfig(frames=40, yaw=40)


@pytest.fixture(scope="module")
def pair(data):
    """ICT with landmarks, and the head model without those that ICT lacks."""
    return ict_with_landmarks(data("3dmm/ict/FaceXModel/generic_neutral_mesh.obj").parent, models.load("head"))


@pytest.mark.slow
def test_surface_from_exact_landmarks(pair):
    ict, head = pair
    distances = []
    for seed, person in enumerate(PEOPLE):
        identity = torch.tensor(person)
        clip = make_clip(ict, CONFIG, seed=seed, identity=identity)
        track = track_landmarks(detections(clip, clip.landmarks), head, TrackConfig(focal=clip.camera.focal))
        distances.append(surface_errors(ict, identity, head, neutral(head, track)).distances)
    assert torch.cat(distances).median() < 0.60  # millimetres, pooled over all as NoW does; the mean head is at 1.0
    average = surface_errors(ict, torch.tensor(PEOPLE[2]), head, head.template)
    assert distances[2].median() < 0.65 * average.distances.median()


@pytest.mark.slow
def test_surface_from_pictures(pair):
    ict, head = pair
    distances = []
    for seed in (0, 2):
        identity = torch.tensor(PEOPLE[seed])
        clip = make_clip(ict, CONFIG, seed=seed, identity=identity)
        seen = detect(clip, pictures(ict, clip, seed))
        assert seen.seen.float().mean() > 0.95
        track = track_landmarks(seen, models.load("head"), TrackConfig(focal=clip.camera.focal))
        distances.append(surface_errors(ict, identity, head, neutral(head, track)).distances)
    assert torch.cat(distances).median() < 1.0
