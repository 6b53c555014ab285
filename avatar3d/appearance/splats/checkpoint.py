"""An unfinished optimisation <-> one safetensors file, so that the same command goes on after a kill."""

import json
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from avatar3d import storage
from avatar3d.appearance.splats.fit import Fitting
from avatar3d.types.gaussians import Gaussians

_FIXED = ("face", "barycentrics", "group", "mixing", "limits")


def save_fitting(path: Path, key: str, fitting: Fitting) -> None:
    """Writes the state; the old file stays until the new one is whole.

    Raises:
        FileError: the file cannot be written.
    """
    cloud, poses = fitting.cloud, fitting.poses
    tensors: dict[str, Tensor] = {
        "generator": fitting.generator.get_state(),
        "earned": cloud.earned,
        "seen": cloud.seen,
    }
    for name in _FIXED:
        value = getattr(cloud.fixed, name)
        if value is not None:
            tensors[f"fixed.{name}"] = value
    for name, leaf in cloud.leaves.items():
        tensors[f"leaf.{name}"] = leaf.detach()
        tensors[f"first.{name}"], tensors[f"second.{name}"] = cloud.moments[name]
    for name, value in poses.corrections.items():
        tensors[f"pose.{name}"] = value.detach()
        tensors[f"pose_first.{name}"], tensors[f"pose_second.{name}"] = fitting.pose_moments[name]
    state = {"key": key, "step": fitting.step, "adam": cloud.steps, "order": fitting.order, "seconds": fitting.seconds}
    with storage.replacing(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"state": json.dumps(state)})


def load_fitting(path: Path, key: str, fitting: Fitting) -> bool:
    """Brings a fresh optimisation to where the file left off; False, and nothing done, where there is no such file."""
    if not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            if state["key"] != key:
                return False
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError):
        return False

    def group(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

    cloud, leaves, fixed = fitting.cloud, group("leaf."), group("fixed.")
    sh = torch.cat([leaves["sh_first"], leaves["sh_rest"]], 1) if "sh_rest" in leaves else leaves["sh_first"]
    cloud.fixed = Gaussians(
        face=fixed["face"], barycentrics=fixed["barycentrics"], group=fixed["group"], mixing=fixed.get("mixing"),
        limits=fixed.get("limits"), offsets=leaves["offsets"], quats=leaves["quats"], log_scales=leaves["log_scales"],
        logit_opacities=leaves["logit_opacities"], sh=sh, basis=leaves.get("basis"),
    )  # fmt: skip
    cloud.leaves = {name: value.requires_grad_() for name, value in leaves.items()}
    first, second = group("first."), group("second.")
    cloud.moments = {name: (first[name], second[name]) for name in leaves}
    cloud.earned, cloud.seen, cloud.steps = tensors["earned"], tensors["seen"], state["adam"]
    first, second = group("pose_first."), group("pose_second.")
    with torch.no_grad():
        for name, value in group("pose.").items():
            fitting.poses.corrections[name].copy_(value)
            fitting.pose_moments[name] = (first[name], second[name])
    fitting.generator.set_state(tensors["generator"])
    fitting.step, fitting.order, fitting.seconds = state["step"], state["order"], state["seconds"]
    return True
