"""Learned parts: face detection, landmarks and blendshape scores, with their packaged networks."""

from avatar3d.nets.face_detector import Detection, FaceDetector
from avatar3d.nets.face_landmarker import FaceLandmarker
from avatar3d.nets.face_landmarks import FaceLandmarks
from avatar3d.nets.registry import NETWORKS, Network

__all__ = ["NETWORKS", "Detection", "FaceDetector", "FaceLandmarker", "FaceLandmarks", "Network"]
