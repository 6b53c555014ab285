"""`@typed`: checks jaxtyping shape annotations of public functions as they are called."""

from typing import Any, Literal, TypeVar

from beartype import BeartypeConf, BeartypeStrategy, beartype
from jaxtyping import jaxtyped

Backend = Literal["auto", "native", "reference"]

_F = TypeVar("_F", bound=Any)
# O(1): a shape is checked once per tensor argument, a container by one of its items.
_check = beartype(conf=BeartypeConf(strategy=BeartypeStrategy.O1, is_pep484_tower=True))


def typed(function: _F) -> _F:
    """Checks argument types and array shapes on every call (jaxtyping + beartype)."""
    return jaxtyped(typechecker=_check)(function)
