"""The head model's forward pass against `smplx.lbs` on arrays of FLAME's size."""

import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from avatar3d.cli.bench import Result, interleaved_ms
from avatar3d.cli.benches.roofline import calibrate, triad
from avatar3d.errors import DependencyError
from avatar3d.models.linear import LinearModel

VERTICES, COEFFICIENTS, JOINTS, PARENTS = 5023, 400, 5, (-1, 0, 1, 1, 1)


def measure(device: torch.device) -> Iterator[Result]:
    """Batch 1, 32 and 256; forward, and forward with backward to coefficients and pose."""
    try:
        lbs: Any = importlib.import_module("smplx.lbs").lbs
    except ImportError as error:
        raise DependencyError("smplx", "smplx", "bench skin") from error
    arrays = _arrays(device)
    model = _model(arrays)
    roof, basis = calibrate(device), VERTICES * 3 * (COEFFICIENTS + 9 * (JOINTS - 1))
    bandwidth = max(roof.bandwidth, triad(device, 4 * basis))  # the basis may stay in a cache
    for batch in (1, 32, 256):
        generator = torch.Generator().manual_seed(batch)
        betas = torch.randn(batch, COEFFICIENTS, generator=generator).to(device).requires_grad_()
        pose = (0.1 * torch.randn(batch, JOINTS * 3, generator=generator)).to(device).requires_grad_()

        def ours(betas=betas, pose=pose) -> Tensor:
            return model.forward(betas[:, :300], betas[:, 300:], pose.view(-1, JOINTS, 3)).vertices

        def theirs(betas=betas, pose=pose, batch=batch) -> Tensor:
            template = arrays["template"].expand(batch, -1, -1)
            return lbs(betas, pose, template, arrays["shapedirs"], arrays["posedirs"], arrays["regressor"],
                       torch.tensor(PARENTS, device=device), arrays["weights"])[0]  # fmt: skip

        error = (ours() - theirs()).abs().max().item()
        if error > 1e-5:
            raise ArithmeticError(f"bench skin: ours and smplx differ by {error:.2g} m")
        # one product with the basis each way; points are written and read, and their gradients read, written, read
        product = max(basis * 4 / bandwidth, 2 * basis * batch / roof.flops)
        pass_over_points = 12 * VERTICES * batch / bandwidth
        floors = product + 2 * pass_over_points, 2 * product + 6 * pass_over_points
        for name, with_grad in (("forward", False), ("forward+backward", True)):
            times = interleaved_ms({"ours": _timed(ours, with_grad), "smplx": _timed(theirs, with_grad)})
            roofline = floors[with_grad] * 1e3 / times["ours"]
            yield Result(bench="skin", pass_=name, case=f"batch {batch}", threads=torch.get_num_threads(),
                         ours_ms=times["ours"], peers_ms={"smplx": times["smplx"]}, roofline=roofline)  # fmt: skip


def _timed(function, with_grad: bool):
    def call() -> None:
        with torch.set_grad_enabled(with_grad):
            out = function()
            if with_grad:
                out.sum().backward()

    return call


def _arrays(device: torch.device) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    regressor = torch.rand(JOINTS, VERTICES, generator=g)
    weights = torch.rand(VERTICES, JOINTS, generator=g)
    arrays = {
        "template": 0.1 * torch.randn(VERTICES, 3, generator=g),
        "shapedirs": 1e-3 * torch.randn(VERTICES, 3, COEFFICIENTS, generator=g),
        "posedirs": 1e-3 * torch.randn(9 * (JOINTS - 1), VERTICES * 3, generator=g),
        "regressor": regressor / regressor.sum(1, keepdim=True),
        "weights": weights / weights.sum(1, keepdim=True),
    }
    return {name: value.to(device) for name, value in arrays.items()}


def _model(arrays: dict[str, Tensor]) -> LinearModel:
    basis = arrays["shapedirs"].permute(2, 0, 1).contiguous()
    joints = torch.einsum("jv,kvc->kjc", arrays["regressor"], basis)
    nothing = torch.zeros(1, 3, dtype=torch.long)
    return LinearModel(
        name="flame-sized", licence="none", template=arrays["template"],
        identity_basis=basis[:300], expression_basis=basis[300:], expression_names=(),
        faces=nothing, uvs=torch.zeros(1, 2), uv_faces=nothing,
        joint_names=tuple("abcde"), joint_parents=PARENTS, joint_template=arrays["regressor"] @ arrays["template"],
        joint_identity_basis=joints[:300], joint_expression_basis=joints[300:],
        pose_basis=arrays["posedirs"].view(-1, VERTICES, 3), skinning_weights=arrays["weights"],
    )  # fmt: skip
