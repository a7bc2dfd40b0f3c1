"""Public names that are imported when they are first used, for packages that must be quick to import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose names are imported when they are first used.

    Parameters
    ----------
    package : str
        Name of the package.
    homes : mapping of str to str
        The module that defines each name; a submodule of the same name stands for itself.

    Returns
    -------
    getattr, dir : callable
        What PEP 562 looks for in a module.

    Examples
    --------
    >>> from raydp_ml.lazy import lazy_names
    >>> look_up, _ = lazy_names("raydp_ml.lazy", {"sqrt": "math"})
    >>> look_up("sqrt")(9.0)
    3.0
    """

    def look_up(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(homes[name])
        value = module if homes[name] == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return look_up, names
