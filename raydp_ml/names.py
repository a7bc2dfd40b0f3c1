"""Names of columns as Spark's expressions take them."""

from __future__ import annotations

__all__ = ["quoted"]


def quoted(name: str) -> str:
    """A column's name in backticks, so that dots and spaces in it are parts of the name.

    Parameters
    ----------
    name : str
        The name as the schema has it.

    Examples
    --------
    >>> from raydp_ml.names import quoted
    >>> quoted("a.b")
    '`a.b`'
    """
    return "`" + name.replace("`", "``") + "`"
