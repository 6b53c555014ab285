import re

import numpy as np
import pytest
import torch

from avatar3d.nets.blendshapes import INPUTS, OUTPUTS, BlendshapeNet
from avatar3d.types.arkit import ARKIT_INDEX, ARKIT_NAMES


def test_order_of_the_network():
    assert len(INPUTS) == 146 and len(set(INPUTS)) == 146 and max(INPUTS) == 477
    assert len(OUTPUTS) == 52 and OUTPUTS[:2] == ("_neutral", "browDownLeft")
    assert set(OUTPUTS[1:]) == set(ARKIT_NAMES) - {"tongueOut"}


def test_mediapipes_own_scores(data):
    """MediaPipe's published landmarks of its portrait (820 x 1024 pixels) give its published scores, by name."""
    text = data("mediapipe_expected/portrait_expected_face_landmarks.pbtxt").read_text()
    points = np.array(re.findall(r"x: (\S+)\s+y: (\S+)", text), dtype=np.float32) * [820, 1024]
    expected = re.findall(
        r'score: (\S+)\s+label: "(\w+)"', data("mediapipe_expected/portrait_expected_blendshapes.pbtxt").read_text()
    )
    assert [label for _, label in expected] == list(OUTPUTS)
    scores = BlendshapeNet()(torch.from_numpy(points.astype(np.float32)))
    for score, label in expected[1:]:
        # theirs were computed on landmarks before rounding to the file: largest difference 0.006
        assert scores[ARKIT_INDEX[label]] == pytest.approx(float(score), abs=0.01), label
    assert scores[ARKIT_INDEX["tongueOut"]] == 0


def test_tongue_is_passed_through():
    scores = BlendshapeNet()(torch.rand(478, 3) * 200, tongue=0.7)
    assert scores[ARKIT_INDEX["tongueOut"]] == pytest.approx(0.7)
    assert ((scores >= 0) & (scores <= 1)).all()
