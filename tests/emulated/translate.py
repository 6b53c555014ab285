"""CUDA source to C++ that tests/emulated/cuda_runtime.h runs on the host: launches and dynamic shared memory.

python translate.py IN.cu OUT.cpp
"""

import re
import sys
from pathlib import Path

LAUNCH = re.compile(r"(\w+(?:<[^<>;]*>)?)<<<(.*?)>>>\((.*?)\);", re.DOTALL)
SHARED = re.compile(r"extern __shared__ (?:__align__\(\d+\) )?([\w ]+?) (\w+)\[\];")


def arguments(text: str) -> list[str]:
    """Splits at the commas that lie in no bracket."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def launch(match: re.Match) -> str:
    kernel, configuration, values = match.groups()
    grid, block, shared, stream = arguments(configuration)
    return f"host_cuda::launch({grid}, {block}, {shared}, {stream}, [=] {{ {kernel}({values}); }});"


def main(source: str, target: str) -> None:
    text = Path(source).read_text()
    text = SHARED.sub(r"\1* const \2 = host_cuda::dynamic_shared<\1>();", text)
    text = LAUNCH.sub(launch, text).replace("#pragma unroll", "").replace("__noinline__ ", "")
    Path(target).write_text(f'#include <cuda_runtime.h>\n#line 1 "{source}"\n' + text)


main(*sys.argv[1:])
