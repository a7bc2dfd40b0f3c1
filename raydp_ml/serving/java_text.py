"""Numbers as Java writes them, for stages that take numbers as names of categories."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidTypeError

__all__ = ["java_number", "java_strings"]


def java_number(value: float | np.float32 | np.float64) -> str:
    """A floating point number as Java's Double.toString and Float.toString write it.

    Parameters
    ----------
    value : float or numpy.float32
        A number of the precision to be written.

    Examples
    --------
    >>> java_number(1.0), java_number(1e7), java_number(0.00025), java_number(np.float32(0.1))
    ('1.0', '1.0E7', '2.5E-4', '0.1')
    """
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "Infinity" if float(value) > 0 else "-Infinity"
    size = abs(float(value))
    if size == 0 or 1e-3 <= size < 1e7:
        return np.format_float_positional(value, unique=True, trim="0")
    mantissa, exponent = np.format_float_scientific(value, unique=True, trim="0").split("e")
    return f"{mantissa}E{int(exponent)}"


def java_strings(name: str, array: pa.Array) -> pa.Array:
    """A column as strings: strings stay, numbers become what Spark's cast to string makes of them.

    Parameters
    ----------
    name : str
        Of the column, for the message.
    array : pyarrow.Array
        Strings, booleans, integers or floating point numbers.

    Returns
    -------
    pyarrow.Array
        Strings; null where the column is null.
    """
    kind = array.type
    if pa.types.is_string(kind):
        return array
    if (
        pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    ):
        return array.cast(pa.string())
    if pa.types.is_float32(kind) or pa.types.is_float64(kind):
        coded = array.dictionary_encode()
        # A zero-copy array of numpy keeps float32, which Java writes with fewer digits.
        texts = [java_number(value) for value in coded.dictionary.to_numpy(zero_copy_only=False)]
        return pa.array(texts, type=pa.string()).take(coded.indices)
    raise InvalidTypeError(f"column {name!r} must have strings or numbers, it has {kind}")
