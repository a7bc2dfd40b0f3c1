"""Functions of the user in a saved directory: their names only, which a load imports when the caller trusts them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.attachments import Attachments
from raydp_ml.persistence.codecs import CannotEncodeError
from raydp_ml.persistence.directory import current_trust
from raydp_ml.persistence.names import qualified_name
from raydp_ml.persistence.values import encode

__all__ = ["find_function", "record_of_function"]


def record_of_function(function: Any) -> dict[str, Any]:
    """What a saved directory has of a function: its name, or why it has none.

    Examples
    --------
    >>> record_of_function(len)
    {'function': 'builtins.len'}
    """
    try:
        spec = encode(function, Attachments(Path()))
    except CannotEncodeError as error:
        return {"function": None, "was": str(error)}
    if not isinstance(spec, dict) or "$function" not in spec:
        return {"function": None, "was": f"an instance of {qualified_name(type(function))}"}
    return {"function": spec["$function"]}


def find_function(name: str, record: Mapping[str, Any]) -> Any:
    """The function of a record, within a load in progress.

    Parameters
    ----------
    name : str
        The name of its step.
    record : mapping
        What :func:`record_of_function` returned.

    Raises
    ------
    InvalidValueError
        When the caller of load does not trust the function, or it could not be written.
    """
    way = f"give it back with load(path, params={{{name!r}: function}})"
    if record["function"] is None:
        raise InvalidValueError(
            f"step {name!r} of the saved pipeline could not be written: it was {record['was']}; {way}"
        )
    trust = current_trust()
    if not trust.covers(record["function"]):
        raise InvalidValueError(
            f"step {name!r} of the saved pipeline is the function {record['function']!r}, which loading would import. If "
            f"you trust it: load(path, trusted=[{record['function']!r}]); or {way}"
        )
    return trust.resolve(record["function"], "function")
