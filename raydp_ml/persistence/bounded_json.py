"""JSON of bounded size, for files that anybody may have written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raydp_ml.errors import InvalidValueError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_INTEGER", "check_bounds", "check_names", "read_json"]

MAX_BYTES = 64 * 2**20
"""Bytes of a file; the names of 2**18 features, the most that HashingTF makes unasked, take a tenth of it."""
MAX_DEPTH = 100
"""Objects and lists within each other; the values in them are read by recursion."""
MAX_INTEGER = 2**64 - 1
"""Absolute value of whole numbers: those of numpy's widest types, seeds for example, are not larger."""


def read_json(file: Path) -> Any:
    """What stands in a file.

    Parameters
    ----------
    file : Path
        A regular file with JSON of the standard, without ``NaN`` and ``Infinity``.

    Raises
    ------
    ValueError
        When it is not JSON, or larger, deeper or with larger numbers than the bounds of this module allow.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from raydp_ml.persistence.bounded_json import read_json
    >>> file = Path(tempfile.mkdtemp(), "metadata.json")
    >>> _ = file.write_text('{"a": [1, 2.5]}')
    >>> read_json(file)
    {'a': [1, 2.5]}
    """
    with file.open("rb") as opened:
        text = opened.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    try:
        content = json.loads(
            text.decode("utf-8"), parse_int=_integer, parse_float=_float, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from error
    check_bounds(content)
    return content


def check_bounds(content: Any) -> None:
    """Raise for JSON that :func:`read_json` would refuse, apart from its size.

    Parameters
    ----------
    content : object
        Dicts, lists and plain values.

    Raises
    ------
    ValueError
        When it is too deep or has a whole number that is too large.
    """
    level: list[Any] = [content]
    for _ in range(MAX_DEPTH + 1):
        for item in level:
            if isinstance(item, int) and abs(item) > MAX_INTEGER:
                raise ValueError(f"it holds a whole number beyond {MAX_INTEGER}")
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return
        level = [inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)]
    raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


def check_names(names: Iterable[Any], what: str) -> None:
    """Raise unless names that a file gives to arguments or attributes are plain ones.

    Parameters
    ----------
    names : iterable of str
        The names.
    what : str
        What they name, for the message.

    Raises
    ------
    InvalidValueError
        For what is no identifier, and for names such as ``__class__``, which mean something to Python.
    """
    for name in names:
        if not (isinstance(name, str) and name.isidentifier()) or name.startswith("__"):
            raise InvalidValueError(f"the saved directory names {what} {name!r}, which no saved directory has")


def _integer(text: str) -> int:
    if len(text) > len(str(MAX_INTEGER)) + 1:
        raise ValueError(f"it holds a whole number beyond {MAX_INTEGER}")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds the number {text[:40]}, which is too large")
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"it holds {text}, which is not JSON")
