"""The compiled module, and the one rule by which an operation chooses between it and the torch reference."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from avatar3d.errors import BackendError
from avatar3d.typing import Backend

_C: ModuleType | None
WHY_NOT: str
try:
    _C = importlib.import_module("avatar3d._C")
    WHY_NOT = ""
except ImportError as error:
    _C = None
    WHY_NOT = f"avatar3d._C cannot be imported: {error}"


def module() -> ModuleType:
    """The compiled module.

    Raises:
        BackendError: it was not built, or does not load on this machine.
    """
    if _C is None:
        raise BackendError(f"No compiled kernels ({WHY_NOT}). Reinstall with a C++17 compiler: `pip install .`.")
    return _C


def has_kernel(op: str, device: torch.device) -> bool:
    """Whether this build holds `op` for this kind of device."""
    if _C is None or op not in _C.OPERATIONS:
        return False
    return device.type == "cpu" or (device.type == "cuda" and _C.HAS_CUDA and hasattr(_C, f"{op}_forward_cuda"))


def use_native(backend: Backend, op: str, tensor: Tensor) -> bool:
    """Whether to run the compiled kernel for `tensor`.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
    """
    if backend == "reference":
        return False
    supported = has_kernel(op, tensor.device) and tensor.dtype in (torch.float32, torch.float64)
    if backend == "native" and not supported:
        why = WHY_NOT or f"{tensor.dtype} on {tensor.device.type!r}, CUDA kernels built: {bool(_C and _C.HAS_CUDA)}"
        raise BackendError(
            f"`{op}` has no compiled kernel for {tensor.device.type!r} ({why}), and backend='native' was asked for.\n"
            "Reinstall with nvcc on PATH (`AVATAR3D_CUDA=on pip install .`), "
            "or pass backend='auto' to run the torch reference."
        )
    return supported


def call(name: str, tensor: Tensor, *arguments: object) -> Any:
    """Calls a kernel for the device of `tensor`, adding what it runs on: CUDA stream, or number of threads."""
    if tensor.is_cuda:
        with torch.cuda.device(tensor.device):
            return getattr(module(), f"{name}_cuda")(*arguments, torch.cuda.current_stream().cuda_stream)
    return getattr(module(), name)(*arguments, torch.get_num_threads())


class Operation:
    """A kernel as a `torch.library.custom_op`, called directly where neither autograd nor torch.compile looks on.

    The direct call saves the dispatcher's detour and, once in a process, seconds of importing torch's compiler.
    """

    def __init__(self, name: str, kernel: Callable[..., Any]) -> None:
        self.kernel = kernel
        self.custom_op = torch.library.custom_op(name, kernel, mutates_args=())
        self.register_fake = self.custom_op.register_fake
        self.register_autograd = self.custom_op.register_autograd

    def __call__(self, *arguments: Any) -> Any:
        """Runs the kernel."""
        traced = torch.compiler.is_compiling() or not all(map(_is_plain, arguments))
        recorded = torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments)
        return self.custom_op(*arguments) if traced or recorded else self.kernel(*arguments)


_PLAIN = (Tensor, torch.nn.Parameter, bool, int, float, str, type(None))


def _is_plain(argument: Any) -> bool:
    """Whether an argument is no stand-in of torch's compiler."""
    if type(argument) in (list, tuple):
        return all(type(item) in _PLAIN for item in argument)
    return type(argument) in _PLAIN


def operation(name: str) -> Callable[[Callable[..., Any]], Operation]:
    """Makes an `Operation` of the decorated kernel."""
    return lambda kernel: Operation(name, kernel)
