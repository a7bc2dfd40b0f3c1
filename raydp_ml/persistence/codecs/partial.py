"""``functools.partial`` of a class or function, such as an optimizer with its settings."""

from __future__ import annotations

import functools
from typing import Any

from raydp_ml.persistence.bounded_json import check_names
from raydp_ml.persistence.codecs.codec import CannotEncodeError, Codec, Reader, Writer
from raydp_ml.persistence.names import is_below

__all__ = ["CODEC", "PartialCodec"]

# What may be called with the arguments of a file; other classes that a file may name read files when they are called, for example.
_SAFE = ("torch.optim", "torch.nn.functional")


class PartialCodec(Codec):
    """``$partial``: a class or function, and arguments for it."""

    def encode(self, value: Any, writer: Writer) -> dict[str, Any] | None:
        if type(value) is not functools.partial:
            return None
        function = writer.encode(value.func)
        if not isinstance(function, dict) or not function.keys() & {"$class", "$function"}:
            raise CannotEncodeError("a functools.partial of something that is no class and no function")
        keywords = {name: writer.encode(item) for name, item in value.keywords.items()}
        return {"$partial": {"of": function, "arguments": writer.encode(list(value.args)), "keywords": keywords}}

    def decode(self, tag: str, body: Any, reader: Reader) -> Any:
        ((_, name),) = body["of"].items()
        if not (is_below(str(name), _SAFE) or reader.trust.covers(str(name))):
            raise reader.trust.refuse(str(name), "function")
        check_names(body["keywords"], "an argument")
        keywords = {name: reader.decode(item) for name, item in body["keywords"].items()}
        return functools.partial(reader.decode(body["of"]), *reader.decode(body["arguments"]), **keywords)


CODEC = PartialCodec()
