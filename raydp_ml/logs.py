"""What this package says of its work, for those who want to read along."""

from __future__ import annotations

import logging

from raydp_ml.errors import InvalidValueError

__all__ = ["enable_logging"]

_NAME = "raydp_ml"


def enable_logging(level: int | str = "INFO") -> None:
    """Write this package's log to the standard error stream.

    Parameters
    ----------
    level : int or str, default="INFO"
        From which level on, as :mod:`logging` names them. Called again it changes the level. A part has its own logger below
        ``raydp_ml``: ``raydp_ml.cluster``, ``raydp_ml.exchange``, ``raydp_ml.frames``, ``raydp_ml.estimators``.

    Raises
    ------
    InvalidValueError
        For a level that logging does not have.

    Examples
    --------
    >>> import logging, raydp_ml
    >>> raydp_ml.enable_logging("DEBUG")
    >>> logging.getLogger("raydp_ml").level == logging.DEBUG
    True
    >>> raydp_ml.enable_logging("WARNING")
    """
    logger = logging.getLogger(_NAME)
    try:
        logger.setLevel(level)
    except ValueError as error:
        known = ", ".join(logging.getLevelNamesMapping())
        raise InvalidValueError(f"level={level!r} is not a level of logging: {known}") from error
    if not any(isinstance(handler, logging.StreamHandler) for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
