"""The networks that ship with avatar3d: name, file, checksum, licence and origin.

Nothing is ever downloaded. A file is hashed once, when its network is first loaded.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from avatar3d.data import PACKAGE
from avatar3d.errors import AssetError
from avatar3d.typing import typed

WEIGHTS = PACKAGE / "nets" / "weights"
_REINSTALL = "Reinstall avatar3d, or re-create the file with `python tools/{tool}.py`."


@dataclass(frozen=True, kw_only=True)
class Network:
    """One packaged network."""

    name: str
    """Key of the registry."""
    file: str
    """File name in `avatar3d/nets/weights`."""
    sha256: str
    """Checksum of the file, hexadecimal."""
    licence: str
    """SPDX name."""
    source: str
    """Where the file comes from."""
    task: str
    """What it computes."""
    tool: str
    """Script in `tools` that re-creates the file."""


_FACE_TOOL, _PERSON_TOOL = "fetch_face_landmarker", "fetch_person_segmenter"
_FACE_LANDMARKER = "Google MediaPipe Face Landmarker, face_landmarker_v2.task (float16, version 1)"

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network(
            name="face_detector",
            file="face_detector.tflite",
            sha256="b4578f35940bf5a1a655214a1cce5cab13eba73c1297cd78e1a04c2380b0152f",
            licence="Apache-2.0",
            source=_FACE_LANDMARKER,
            task="face boxes and six keypoints in a 128 x 128 picture (BlazeFace, short range)",
            tool=_FACE_TOOL,
        ),
        Network(
            name="face_landmarks",
            file="face_landmarks_detector.tflite",
            sha256="c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
            licence="Apache-2.0",
            source=_FACE_LANDMARKER,
            task="478 face landmarks and face presence in a 256 x 256 crop (Face Mesh V2)",
            tool=_FACE_TOOL,
        ),
        Network(
            name="face_blendshapes",
            file="face_blendshapes.tflite",
            sha256="4f36dded049db18d76048567439b2a7f58f1daabc00d78bfe8f3ad396a2d2082",
            licence="Apache-2.0",
            source=_FACE_LANDMARKER,
            task="51 ARKit coefficients from 146 of the landmarks (Blendshape V2)",
            tool=_FACE_TOOL,
        ),
        Network(
            name="person_segmenter",
            file="person_segmenter.tflite",
            sha256="8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27",
            licence="Apache-2.0",
            source="Google MediaPipe @mediapipe/selfie_segmentation 0.1.1675465747, general model",
            task="person probability for every pixel of a 256 x 256 picture",
            tool=_PERSON_TOOL,
        ),
        Network(
            name="speech_motion",
            file="speech_motion.safetensors",
            sha256="831ef5171f64a817aaac536f9ee35b02bda60514c5593ad3b48c1a433a9664c8",
            licence="Apache-2.0",
            source="trained by tools/train_speech.py on synthetic and recorded speech, from hama 1.7.0 on; see NOTICE",
            task="lips, jaw and tongue, contacts and voice activity from log-mel frames of speech",
            tool="train_speech",
        ),
        Network(
            name="speech_ear",
            file="speech_ear.safetensors",
            sha256="67358a863b3875bbb8431bc08a56e015701dfdb0e87b901f4a84c7ce39334da0",
            licence="Apache-2.0",
            source="the encoder of hama 1.7.0, and what tools/train_speech_ear.py trained to read it; see NOTICE",
            task="the same as speech_motion, of sound that is heard as a whole",
            tool="train_speech_ear",
        ),
        Network(
            name="stabilizer",
            file="stabilizer.safetensors",
            sha256="f11636c3e3081e791b3b0103dd602c0ca0d6bfef859f9cff2aeabb7b808dc1b6",
            licence="Apache-2.0",
            source="tools/train_stabilizer.py on pairs drawn from the packaged head model",
            task="where a face lies, and which of its skin stayed with the skull (avatar3d.stabilize)",
            tool="train_stabilizer",
        ),
    )
}


@typed
def verify(path: Path, sha256: str, tool: str = _FACE_TOOL) -> Path:
    """Returns `path` after checking its content; `tool` is what re-creates it.

    Raises:
        AssetError: the file is missing, or its SHA-256 is not `sha256`.
    """
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise AssetError(
            f"Network weights {path} cannot be read ({error.strerror}). {_REINSTALL.format(tool=tool)}"
        ) from error
    if actual != sha256:
        raise AssetError(
            f"Network weights {path} are damaged: SHA-256 {actual[:12]}…, expected {sha256[:12]}…. "
            f"{_REINSTALL.format(tool=tool)}"
        )
    return path


@cache
def weights(name: str) -> Path:
    """Path of a packaged network's verified file; the check runs once per process.

    Raises:
        ValueError: no network of this name.
        AssetError: the file is missing or damaged.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network is called {name!r}; there are {', '.join(NETWORKS)}.")
    network = NETWORKS[name]
    return verify(WEIGHTS / network.file, network.sha256, network.tool)
