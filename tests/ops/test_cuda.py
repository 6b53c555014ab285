"""Every CUDA kernel has tests on a GPU, splats repeat there to the bit, and tools/gpu_check.sh says where none is."""

import ast
import os
import subprocess
import sys

import pytest
import torch

from avatar3d import ops
from avatar3d.ops import native
from tests.conftest import REPO
from tests.splat_cases import cameras, splats


@pytest.mark.parametrize("op", native.module().OPERATIONS)
def test_every_kernel_has_tests_on_both_devices(op):
    assert list((REPO / "cuda_ext" / op).glob("*.cu")), f"{op} has no CUDA kernel"
    tree = ast.parse((REPO / "tests" / "ops" / f"test_{op}.py").read_text())
    tests = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name.startswith("test_")]
    on_device = [f for f in tests if any(a.arg == "device" for a in f.args.args)]
    assert len(on_device) >= 3 and any("equals" in f.name or "solves" in f.name for f in on_device)


@pytest.mark.gpu
@pytest.mark.parametrize("c", [3, 7, 11])
def test_splats_repeat_to_the_bit(rng, c):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    K, T = (t.float().cuda() for t in cameras(rng, 2, 300, 200))
    leaves = [t.float().cuda().requires_grad_() for t in splats(rng, 20000, size=0.02)]
    more = torch.rand(1, 20000, c, generator=rng).cuda().requires_grad_()
    runs = []
    for _ in range(2):
        p = ops.project_splats(*leaves, K, T, 300, 200)
        image, alpha = ops.blend_splats(p.pixels, p.conics, p.opacities, p.depths, more, 300, 200)
        loss = image.square().sum() + alpha.sum()
        runs.append([image, alpha, *torch.autograd.grad(loss, [*leaves, more])])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_check_says_in_one_line_that_there_is_no_gpu():
    docs = REPO / "docs" / "gpu.md"
    before = docs.read_bytes()
    run = subprocess.run(
        ["bash", "tools/gpu_check.sh"],
        cwd=REPO,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
    assert run.returncode == 1 and run.stdout == ""
    assert (
        run.stderr == "gpu_check: no GPU here: torch.cuda.is_available() is false. Nothing was built, run or written.\n"
    )
    assert docs.read_bytes() == before


def test_the_small_case_of_every_operation_runs():
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "tools/gpu_small.py", "cpu"]
    run = subprocess.run(command, cwd=REPO, capture_output=True, text=True, env=environment)
    assert run.returncode == 0 and run.stdout == "gpu_small: done\n", run.stderr
    source = (REPO / "tools" / "gpu_small.py").read_text()
    assert all(f"ops.{op}(" in source for op in native.module().OPERATIONS)
