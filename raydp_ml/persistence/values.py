"""Parameter values and fitted state as JSON, and the rules for turning names in a file back into classes.

Plain JSON values are written as they are; everything else becomes an object with one key that starts with ``$``:

==============  ==========================================================================================
``$tuple``      a list of values; likewise ``$set``
``$dict``       a list of ``[key, value]``, for keys that are not plain strings
``$float``      ``"nan"``, ``"inf"`` or ``"-inf"``
``$bytes``      base64
``$numpy``      dtype, shape (none for a scalar) and data of a numpy value
``$class``      the qualified name of a class; likewise ``$function``
``$object``     class and ``get_params()`` or constructor arguments of a small configuration object
``$unsaved``    says what the value was; it could not be written
``$partial``    a class or function, and arguments for it
other           see :mod:`raydp_ml.persistence.codecs`: torch modules, optimizers and dtypes, Keras objects
==============  ==========================================================================================

Which names are turned back into classes, :mod:`raydp_ml.persistence.trust` says.
"""

from __future__ import annotations

import base64
import math
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.attachments import Attachments
from raydp_ml.persistence.codecs import CannotEncodeError, Reader, Writer, codec_of_tag, codecs_of
from raydp_ml.persistence.names import public_name, qualified_name, refers_back
from raydp_ml.persistence.trust import Trust, TrustEverything

__all__ = ["decode", "encode"]

_ARRAY_KINDS = "biufUOmM"
# Bytes of an array that stands in metadata.json as text.
_MAX_ARRAY = 2**30


def _encode_numpy(value: Any, attachments: Attachments) -> dict[str, Any]:
    array = np.asarray(value)
    kind = array.dtype.kind
    if array.nbytes > _MAX_ARRAY:
        raise CannotEncodeError(f"a numpy array of {array.nbytes} bytes")
    if kind in "mM":
        data = array.astype("int64").ravel().tolist()
    elif kind in _ARRAY_KINDS:
        data = [encode(item, attachments) for item in array.ravel().tolist()]
    else:
        raise CannotEncodeError(f"a numpy value of dtype {array.dtype}")
    shape = list(array.shape) if isinstance(value, np.ndarray) else None
    return {"$numpy": {"dtype": array.dtype.str, "shape": shape, "data": data}}


def _decode_numpy(spec: dict[str, Any], attachments: Attachments, trust: Trust) -> Any:
    dtype = np.dtype(spec["dtype"])
    items = [decode(item, attachments, trust) for item in spec["data"]]
    if dtype.kind not in _ARRAY_KINDS or dtype.itemsize * len(items) > _MAX_ARRAY:
        # A short text in a file could otherwise ask for any amount of memory.
        raise InvalidValueError(f"the saved directory holds an array of {len(items)} values of dtype {dtype.str}")
    if dtype.kind == "O":
        array = np.empty(len(items), dtype=object)
        array[:] = items
    elif dtype.kind in "mM":
        array = np.array(items, dtype="int64").astype(dtype)
    else:
        array = np.array(items, dtype=dtype)
    return array[0] if spec["shape"] is None else array.reshape(spec["shape"])


def encode(value: Any, attachments: Attachments) -> Any:
    """A JSON-able form of a parameter value or a piece of fitted state.

    Parameters
    ----------
    value : object
        What to write.
    attachments : Attachments
        Where weights that belong to the value are written.

    Returns
    -------
    object
        Something that ``json.dumps`` takes.

    Raises
    ------
    CannotEncodeError
        For values without a safe written form, such as a lambda.

    Examples
    --------
    >>> from pathlib import Path
    >>> from raydp_ml.persistence.attachments import Attachments
    >>> from raydp_ml.persistence.values import encode
    >>> encode((1, 2), Attachments(Path("unused")))
    {'$tuple': [1, 2]}
    """
    if value is None or isinstance(value, bool) or type(value) in (int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, np.generic | np.ndarray):
        return _encode_numpy(value, attachments)
    if type(value) is list:
        return [encode(item, attachments) for item in value]
    if type(value) is tuple:
        return {"$tuple": [encode(item, attachments) for item in value]}
    if type(value) in (set, frozenset):
        return {"$set": sorted((encode(item, attachments) for item in value), key=repr)}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: encode(item, attachments) for key, item in value.items()}
        return {"$dict": [[encode(key, attachments), encode(item, attachments)] for key, item in value.items()]}
    if type(value) is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        what = "class" if isinstance(value, type) else "function"
        if not refers_back(value):
            raise CannotEncodeError(f"the {what} {qualified_name(value)}, which another process cannot import")
        return {f"${what}": public_name(value)}
    writer = Writer(attachments, partial(encode, attachments=attachments), _reader(attachments, TrustEverything()))
    specs = (codec.encode(value, writer) for codec in codecs_of(value))
    spec = next((spec for spec in specs if spec is not None), None)
    if spec is None:
        raise CannotEncodeError(f"an instance of {qualified_name(type(value))}")
    return spec


def decode(spec: Any, attachments: Attachments, trust: Trust) -> Any:
    """The value that :func:`encode` wrote.

    Parameters
    ----------
    spec : object
        What ``json.loads`` gave.
    attachments : Attachments
        The saved directory's files.
    trust : Trust
        Which names may be imported.

    Returns
    -------
    object
        The value.

    Examples
    --------
    >>> from pathlib import Path
    >>> from raydp_ml.persistence.attachments import Attachments
    >>> from raydp_ml.persistence.trust import Trust
    >>> from raydp_ml.persistence.values import decode
    >>> decode({"$tuple": [1, 2]}, Attachments(Path("unused")), Trust())
    (1, 2)
    """
    if isinstance(spec, list):
        return [decode(item, attachments, trust) for item in spec]
    if not isinstance(spec, dict):
        return spec
    if len(spec) != 1 or not next(iter(spec)).startswith("$"):
        return {key: decode(item, attachments, trust) for key, item in spec.items()}
    (tag, body), *_ = spec.items()
    if tag == "$tuple":
        return tuple(decode(item, attachments, trust) for item in body)
    if tag == "$set":
        return {decode(item, attachments, trust) for item in body}
    if tag == "$dict":
        return {decode(key, attachments, trust): decode(item, attachments, trust) for key, item in body}
    if tag == "$float":
        return float(body)
    if tag == "$bytes":
        return base64.b64decode(body)
    if tag == "$numpy":
        return _decode_numpy(body, attachments, trust)
    if tag in ("$class", "$function"):
        return trust.resolve(body, tag[1:])
    return codec_of_tag(tag).decode(tag, body, _reader(attachments, trust))


def _reader(attachments: Attachments, trust: Trust) -> Reader:
    return Reader(attachments, trust, partial(decode, attachments=attachments, trust=trust))
