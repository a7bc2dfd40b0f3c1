"""The request for a session that settings make, as the arguments of init_spark do."""

from __future__ import annotations

from collections.abc import Mapping

from raydp_ml.cluster.request import SessionRequest
from raydp_ml.errors import InvalidValueError
from raydp_ml.session import check_request

__all__ = ["request_of"]


def request_of(settings: Mapping[str, str], name: str) -> SessionRequest:
    """A session's request.

    Parameters
    ----------
    settings : mapping
        All that was submitted.
    name : str
        Name of an application that has none.
    """
    return check_request(
        settings.get("spark.app.name", name),
        _count(settings, "spark.executor.instances", 2),
        _count(settings, "spark.executor.cores", 1),
        settings.get("spark.executor.memory", "1g"),
        False,
        (False, False),
        None,
        None,
        None,
        settings,
    )


def _count(settings: Mapping[str, str], key: str, default: int) -> int:
    text = settings.get(key, str(default))
    if not text.isdecimal():
        raise InvalidValueError(f"{key}={text!r} must be a whole number")
    return int(text)
