"""The parameters of a Spark ML stage, read from its Python class alone: names, defaults, types and documentation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.feature.spark_seam import defaults_without_java

if TYPE_CHECKING:
    from pyspark.ml.param import Param

__all__ = ["Parameter", "Parameters", "parameters_of"]

# What Spark's converters accept, in words.
_TYPES = {
    "toBoolean": "bool",
    "toFloat": "float",
    "toInt": "int",
    "toString": "str",
    "toList": "list",
    "toListFloat": "list of float",
    "toListInt": "list of int",
    "toListListFloat": "list of lists of float",
    "toListString": "list of str",
    "toMatrix": "Matrix of pyspark.ml.linalg",
    "toVector": "Vector of pyspark.ml.linalg or list of float",
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a stage.

    Attributes
    ----------
    name : str
        Its name.
    default : object
        Its value when it is not given; None where the stage has no value, or one that only the object knows (the name of
        an output column made of the object's id, a seed); ``inspect.Parameter.empty`` when it must be given.
    in_constructor : bool
        Whether the constructor takes it. Spark has setters only for some.
    param : pyspark.ml.param.Param or None
        Spark's own description; None for a constructor argument that is no Param.
    annotation : object
        The annotation in the constructor's signature.
    """

    name: str
    default: Any
    in_constructor: bool
    param: Param | None
    annotation: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.default is inspect.Parameter.empty

    @property
    def type_name(self) -> str:
        """What its values are, in words; an empty string when Spark takes anything."""
        return "" if self.param is None else _TYPES.get(self.param.typeConverter.__name__, "")

    @property
    def doc(self) -> str:
        """Spark's sentence about it."""
        return "" if self.param is None else " ".join(self.param.doc.split())

    def convert(self, owner: str, value: Any) -> Any:
        """The value as Spark keeps it, or the error that Spark would raise, with the names of owner and parameter."""
        if self.param is None:
            return value
        try:
            return self.param.typeConverter(value)
        except (TypeError, AttributeError) as error:
            # With NumPy 2, the converters of Spark 3.5 miss np.string_ when they refuse a string.
            raise InvalidTypeError(self._refusal(owner, value, error)) from error
        except ValueError as error:
            raise InvalidValueError(self._refusal(owner, value, error)) from error

    def _refusal(self, owner: str, value: Any, error: Exception) -> str:
        return f"{self.name} of {owner}: {value!r} is no {self.type_name or 'value for it'} (Spark: {error})"


@dataclass(frozen=True)
class Parameters:
    """All parameters of one class.

    Attributes
    ----------
    by_name : mapping of str to Parameter
        Those of the constructor in its order, then those that have a setter only.
    exact_defaults : bool
        Whether the defaults are certainly what the object will have. Of a user's class only the signature is known.
    takes_others : bool
        Whether the constructor has ``**kwargs``.
    """

    by_name: Mapping[str, Parameter] = field(default_factory=dict)
    exact_defaults: bool = False
    takes_others: bool = False


@cache
def parameters_of(spark_class: type) -> Parameters:
    """The parameters of a Transformer or Estimator.

    Parameters
    ----------
    spark_class : type
        A class of pyspark.ml, or a user's own subclass.

    Returns
    -------
    Parameters
        What its constructor takes and what Params it has.

    Examples
    --------
    >>> from pyspark.ml.feature import Binarizer
    >>> parameters_of(Binarizer).by_name["threshold"].default
    0.0
    """
    own = spark_class.__module__.startswith("pyspark.ml.")
    arguments = list(inspect.signature(spark_class).parameters.values())
    params = _class_params(spark_class)
    exact = defaults_without_java(spark_class) if own else None
    found: dict[str, Parameter] = {}
    for argument in arguments:
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            continue
        name, default = argument.name, argument.default
        if exact is not None and default is not None:
            default = exact.get(name)
        found[name] = Parameter(name, default, True, params.get(name), argument.annotation)
    for name in sorted(set(params) - set(found)):
        found[name] = Parameter(name, None if exact is None else exact.get(name), False, params[name])
    open_ended = any(argument.kind is argument.VAR_KEYWORD for argument in arguments)
    return Parameters(MappingProxyType(found), exact is not None, open_ended)


def _class_params(spark_class: type) -> dict[str, Param]:
    from pyspark.ml.param import Param

    values = (getattr(spark_class, name) for name in dir(spark_class))
    return {value.name: value for value in values if isinstance(value, Param)}
