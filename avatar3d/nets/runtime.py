"""Runs a packaged TensorFlow Lite network on the CPU with ai-edge-litert (XNNPACK)."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import AssetError
from avatar3d.nets.registry import weights

_stderr_lock = threading.Lock()


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Sends file descriptor 2 to nowhere: LiteRT greets there, with no setting to stop it."""
    with _stderr_lock:
        try:
            saved = os.dup(2)
        except OSError:  # no stderr at all
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)


class LiteNetwork:
    """One interpreter of one network with a single input. Not to be shared between threads."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        """Loads a network of the registry.

        Args:
            name: Key of `registry.NETWORKS`.
            threads: XNNPACK threads. These networks are small: a second one gains little.

        Raises:
            AssetError: the file is missing, damaged, or refused by LiteRT.
        """
        from ai_edge_litert.interpreter import Interpreter

        path = weights(name)
        try:
            with _quiet_stderr():
                self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise AssetError(f"LiteRT cannot load {path}: {error}") from error
        self._input = self._interpreter.get_input_details()[0]["index"]
        outputs = self._interpreter.get_output_details()
        self._outputs = [output["index"] for output in outputs]
        self.output_names = [output["name"] for output in outputs]

    def __call__(self, value: Float[Tensor, "*shape"], *, scale: float = 1.0, offset: float = 0.0) -> list[np.ndarray]:
        """Runs the network on `scale * value + offset`; a leading axis of 1 is added.

        Returns:
            Outputs in the network's order, as copies.
        """
        # LiteRT forbids views of its memory while it runs: this one is gone by then
        view = self._interpreter.tensor(self._input)()[0]
        np.multiply(value.numpy(), np.float32(scale), out=view)
        if offset:
            view += np.float32(offset)
        del view
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]
