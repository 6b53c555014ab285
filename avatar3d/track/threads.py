"""Threads where they help: many small matrices are factorised on one, our own kernels run on all.

Handing a 58 x 58 matrix to several threads costs more than it saves, and ruins the time on a machine that is busy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_all: ContextVar[int] = ContextVar("_all", default=0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch runs on one thread inside; `all_threads` gives the others back."""
    before = torch.get_num_threads()
    token = _all.set(before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _all.reset(token)


@contextmanager
def all_threads() -> Iterator[None]:
    """As many threads as before `one_thread`."""
    count = _all.get()
    if count <= 1:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(1)
