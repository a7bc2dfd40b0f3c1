"""The names of classes and functions in saved directories."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

__all__ = ["import_name", "is_below", "public_name", "qualified_name", "refers_back"]

_PACKAGE = __name__.partition(".")[0]


def qualified_name(thing: Any) -> str:
    """Module and qualified name of a class or function.

    Examples
    --------
    >>> from raydp_ml.persistence.names import qualified_name
    >>> qualified_name(dict)
    'builtins.dict'
    """
    return f"{thing.__module__}.{thing.__qualname__}"


def public_name(thing: Any) -> str:
    """The name by which users know a class or function, which stays when files of this package move.

    Parameters
    ----------
    thing : class or function
        One of this package or of another.

    Returns
    -------
    str
        For what is ours, the shortest package that exports it and its name: ``raydp_ml.XGBEstimator``. Otherwise, module
        and qualified name.

    Examples
    --------
    >>> import raydp_ml
    >>> from raydp_ml.persistence.names import public_name
    >>> public_name(raydp_ml.SparkRayPipeline)
    'raydp_ml.SparkRayPipeline'
    """
    if not is_below(str(thing.__module__), [_PACKAGE]):
        return qualified_name(thing)
    parts = thing.__module__.split(".")
    for size in range(1, len(parts)):
        package = import_module(".".join(parts[:size]))
        name = thing.__qualname__
        if name in getattr(package, "__all__", ()) and getattr(package, name) is thing:
            return f"{package.__name__}.{name}"
    return qualified_name(thing)


def is_below(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a dotted name is one of the prefixes or stands below one.

    Examples
    --------
    >>> from raydp_ml.persistence.names import is_below
    >>> is_below("torch.nn.Linear", ["torch.nn"]), is_below("torch.nnx", ["torch.nn"])
    (True, False)
    """
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def import_name(name: str) -> Any:
    """The object with this qualified name: the longest importable module part, then attributes.

    Raises
    ------
    ImportError, AttributeError
        When there is no such object.

    Examples
    --------
    >>> from raydp_ml.persistence.names import import_name
    >>> import_name("collections.OrderedDict").__name__
    'OrderedDict'
    """
    parts = name.split(".")
    for size in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:size])
        try:
            value: Any = sys.modules.get(module_name) or import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and is_below(module_name, [error.name]):
                continue  # This part is a class or does not exist, so a shorter module name is tried.
            raise
        for part in parts[size:]:
            value = getattr(value, part)
        return value
    raise ModuleNotFoundError(f"no module holds {name!r}", name=name)


def refers_back(thing: Any) -> bool:
    """Whether the qualified name of a class or function leads back to it.

    Examples
    --------
    >>> from raydp_ml.persistence.names import refers_back
    >>> refers_back(dict), refers_back(lambda: 1)
    (True, False)
    """
    if thing.__module__ is None or "<" in thing.__qualname__:
        return False
    try:
        return import_name(qualified_name(thing)) is thing
    except (ImportError, AttributeError):
        return False
