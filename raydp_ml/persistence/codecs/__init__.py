"""Codecs: one module for each library whose objects a saved directory can hold, all in one table.

The module of a codec is imported when a value of its library is met, so that nobody needs a library that he does not use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.codecs.codec import CannotEncodeError, Codec, Reader, Writer

__all__ = ["CannotEncodeError", "Codec", "Reader", "Writer", "codec_of_tag", "codecs_of"]


@dataclass(frozen=True)
class _Entry:
    """A codec: the package of its values' classes, the tags of their written form, and the module with its ``CODEC``."""

    library: str
    tags: tuple[str, ...]
    module: str

    @property
    def codec(self) -> Codec:
        """The codec, imported now if it was not before."""
        codec: Codec = import_module(self.module).CODEC
        return codec


_TABLE = (
    _Entry("keras", ("$keras_model", "$keras"), "raydp_ml.persistence.codecs.keras"),
    _Entry(
        "torch",
        ("$module", "$optimizer", "$lr_scheduler", "$torch_dtype", "$torch_layout", "$tensor"),
        "raydp_ml.persistence.codecs.torch",
    ),
    _Entry("xgboost", (), "raydp_ml.persistence.codecs.xgboost"),
    _Entry("functools", ("$partial",), "raydp_ml.persistence.codecs.partial"),
    _Entry("raydp_ml", (), "raydp_ml.persistence.codecs.own"),
    # Every class has ``object`` as a base, so this one is the last that is asked.
    _Entry("builtins", ("$object",), "raydp_ml.persistence.codecs.objects"),
)


def codecs_of(value: Any) -> Iterator[Codec]:
    """The codecs of the libraries that a value's class or its bases come from.

    Parameters
    ----------
    value : object
        Any value.

    Yields
    ------
    Codec
        In the order of the table.

    Examples
    --------
    >>> from raydp_ml.persistence.codecs import codecs_of
    >>> [type(codec).__name__ for codec in codecs_of(object())]
    ['ObjectCodec']
    """
    libraries = {base.__module__.partition(".")[0] for base in type(value).__mro__}
    return (entry.codec for entry in _TABLE if entry.library in libraries)


def codec_of_tag(tag: str) -> Codec:
    """The codec that reads a tag.

    Parameters
    ----------
    tag : str
        The key of a written form.

    Raises
    ------
    InvalidValueError
        When no codec has this tag.

    Examples
    --------
    >>> from raydp_ml.persistence.codecs import codec_of_tag
    >>> type(codec_of_tag("$object")).__name__
    'ObjectCodec'
    """
    for entry in _TABLE:
        if tag in entry.tags:
            return entry.codec
    raise InvalidValueError(f"the saved directory has a value of kind {tag!r}, which this version does not know")
