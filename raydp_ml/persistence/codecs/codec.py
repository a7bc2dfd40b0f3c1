"""What a codec is: how the objects of one library are written into a saved directory, and read from it.

To add a library, write a module with a subclass of :class:`Codec` and a line for it in the table of
:mod:`raydp_ml.persistence.codecs`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raydp_ml.errors import InvalidTypeError
from raydp_ml.persistence.attachments import Attachments
from raydp_ml.persistence.trust import Trust

__all__ = ["CannotEncodeError", "Codec", "Reader", "Writer"]


class CannotEncodeError(InvalidTypeError):
    """A value has no safe written form; the message says what it is."""


@dataclass(frozen=True)
class Reader:
    """What a codec needs for reading: the files, the rules, and the way back for values inside its own."""

    attachments: Attachments
    trust: Trust
    decode: Callable[[Any], Any]


@dataclass(frozen=True)
class Writer:
    """What a codec needs for writing: the files, the way for values inside its own, and a reader of what it wrote."""

    attachments: Attachments
    encode: Callable[[Any], Any]
    reader: Reader
    """Trusts everything, so that a codec can read what it wrote and compare."""


class Codec(ABC):
    """How objects of one library are written and read."""

    @abstractmethod
    def encode(self, value: Any, writer: Writer) -> dict[str, Any] | None:
        """The written form of an object.

        Parameters
        ----------
        value : object
            An object whose class, or a base of it, comes from the codec's library.
        writer : Writer
            Where its files go, and how values inside it are written.

        Returns
        -------
        dict or None
            An object with one key, a tag of this codec; None for what this codec does not know.

        Raises
        ------
        CannotEncodeError
            For an object that would not come back as it was.
        """

    @abstractmethod
    def decode(self, tag: str, body: Any, reader: Reader) -> Any:
        """The object that :meth:`encode` wrote.

        Parameters
        ----------
        tag : str
            The key of the written form.
        body : object
            What belongs to it.
        reader : Reader
            The files of the saved directory, and the rules of the load.
        """
