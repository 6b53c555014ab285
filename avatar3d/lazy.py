"""Public names that are looked up when they are first used, so that `import avatar3d` and
`--help` do not wait for torch.

Four packages bear the name of a public function (`avatar3d.track` is what a user calls, and a package): Python binds a
package to its parent whenever something inside it is imported, which must not hide the function.
"""

import importlib
import sys
import types
from collections.abc import Mapping


class _Package(types.ModuleType):
    """A package whose names come from elsewhere, on first use."""

    def __getattr__(self, name: str) -> object:
        source = self.__dict__["_sources"].get(name)
        if source is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, _, attribute = source.partition(":")
        value = importlib.import_module(module)
        value = getattr(value, attribute) if attribute else value
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: object) -> None:
        hidden = isinstance(value, types.ModuleType) and ":" in self.__dict__["_sources"].get(name, "")
        if not hidden:
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__dict__["_sources"]})


def look_up_later(package: str, sources: Mapping[str, str]) -> None:
    """Gives a package names that are imported when they are first used.

    Args:
        package: `__name__` of the package, in the middle of whose import this is called.
        sources: For each name "module:attribute", or "module" where it is a module.
    """
    module = sys.modules[package]
    module.__dict__["_sources"] = dict(sources)
    module.__class__ = _Package
