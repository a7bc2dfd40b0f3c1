"""Callbacks of this package, written as what they were made from; what they note in a training is not written."""

from __future__ import annotations

import inspect
from typing import Any

from raydp_ml.persistence.codecs.codec import Codec, Reader, Writer
from raydp_ml.persistence.codecs.objects import CODEC as OBJECTS
from raydp_ml.persistence.codecs.objects import OWN_CALLBACKS, written
from raydp_ml.persistence.names import public_name

__all__ = ["CODEC", "OwnCodec"]


class OwnCodec(Codec):
    """Callbacks of this package, in the form of other small objects."""

    def encode(self, value: Any, writer: Writer) -> dict[str, Any] | None:
        if public_name(type(value)) not in OWN_CALLBACKS:
            return None
        return written(
            value, {name: getattr(value, name) for name in inspect.signature(type(value)).parameters}, writer
        )

    def decode(self, tag: str, body: Any, reader: Reader) -> Any:
        return OBJECTS.decode(tag, body, reader)


CODEC = OwnCodec()
