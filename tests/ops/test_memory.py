"""The compiled module has the C library keep memory that is freed."""

import os
import platform

import pytest
import torch

from avatar3d import ops  # noqa: F401  (loads the compiled module)

SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.skipif(any(name in os.environ for name in SETTINGS), reason="the user's own settings count")
def test_images_are_not_mapped_anew_in_every_round():
    import resource

    def round_() -> None:
        first = torch.ones(512, 512, 3)
        second = torch.ones(512, 512, 3)
        del first
        third = torch.ones(1024, 512, 3)
        del second, third

    for _ in range(3):
        round_()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        round_()
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20
    assert faults < 500, f"{faults} page faults in a round of {12 << 20} bytes, {(12 << 20) // 4096} pages"
