"""Stage: a Transformer or Estimator of Spark ML as a plain description, which becomes the real object when it is needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, ClassVar

from sklearn.base import BaseEstimator

from raydp_ml.errors import InvalidTypeError, InvalidValueError, SessionStoppedError
from raydp_ml.feature.documentation import docstring, reference_url
from raydp_ml.feature.parameters import Parameter, Parameters, parameters_of
from raydp_ml.feature.values import equal, from_plain, to_plain

__all__ = ["Stage", "describe", "from_dict", "stage_type"]

# Params that hold stages. Spark takes anything there, and finds out when it fits.
_ONE_STAGE = frozenset({("pyspark.ml.classification", "OneVsRest", "classifier")})
_LIST_OF_STAGES = frozenset({("pyspark.ml.pipeline", "Pipeline", "stages")})


class Stage(BaseEstimator):
    """A Transformer or Estimator of Spark ML, written down: base class of all that :mod:`raydp_ml.feature` has.

    pyspark.ml's own classes can be made only while a session runs. A description needs neither a session nor Java: it holds the
    class and the values of its parameters, checked by Spark's own converters when they are given. It follows scikit-learn's rules
    (parameters are keywords and attributes; ``get_params``, ``set_params`` and ``clone`` work), is equal to a description with the
    same values, and can be pickled.

    A value of None means that the parameter is not given: Spark's default is used.

    Parameters
    ----------
    **params
        The parameters of the class, by their names in Spark.

    Raises
    ------
    InvalidTypeError
        For a name that the class does not have, or a value that Spark's converter for it refuses.

    Examples
    --------
    >>> from raydp_ml.feature import VectorAssembler
    >>> vec = VectorAssembler(inputCols=["distance", "hour"], outputCol="features")
    >>> vec
    VectorAssembler(inputCols=['distance', 'hour'], outputCol='features')
    >>> vec.set_params(handleInvalid="keep").handleInvalid
    'keep'
    """

    spark_class: ClassVar[type]
    """The class of Spark ML that this describes."""
    is_estimator: ClassVar[bool]
    """Whether that class is an Estimator, which learns from rows; a Transformer does not."""
    _parameters: ClassVar[Parameters]
    _values: dict[str, Any]

    # scikit-learn's diagram links the documentation of a class whose package has this name.
    _doc_link_module = "raydp_ml"
    _doc_link_template = "{url}"

    def __init__(self, **params: Any) -> None:
        if type(self) is Stage:
            raise InvalidTypeError(
                "Stage is what the classes of raydp_ml.feature have in common; describe(...) makes one"
            )
        object.__setattr__(self, "_values", {})
        known, open_ended = self._parameters.by_name, self._parameters.takes_others
        unknown = [] if open_ended else [name for name in params if name not in known]
        if unknown:
            raise InvalidTypeError(self._unknown(unknown))
        for name, value in params.items():
            self._put(name, self._convert(name, value))
        missing = [name for name, parameter in known.items() if parameter.required and name not in self._values]
        if missing:
            raise InvalidTypeError(f"{type(self).__name__} needs a value for {', '.join(missing)}")

    # ---- parameters ------------------------------------------------------------------------------------------------

    @classmethod
    def _get_param_names(cls) -> list[str]:
        # scikit-learn asks here which parameters a class has.
        return sorted(cls._parameters.by_name)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name.

        Parameters
        ----------
        deep : bool, default True
            Also those of stages that are values, as ``classifier__maxIter`` and ``stages__0__inputCol``.

        Returns
        -------
        dict
            Values; None for a parameter that has none, or one that Spark decides.
        """
        values = {name: self._get(name) for name in [*self._parameters.by_name, *self._values]}
        if deep:
            for name, value in list(values.items()):
                for path, stage in _stages_in(name, value):
                    values |= {} if path == name else {path: stage}
                    values |= {f"{path}__{inner}": item for inner, item in stage.get_params().items()}
        return values

    def set_params(self, **params: Any) -> Stage:
        """Change parameters; nothing changes when one of them is wrong.

        Parameters
        ----------
        **params
            Values by name, also ``classifier__maxIter`` for a stage that is a value. None takes a value away.

        Returns
        -------
        Stage
            This one.

        Raises
        ------
        InvalidValueError
            For a name that is not among ``get_params()``.
        InvalidTypeError
            For a value that Spark's converter refuses.
        """
        # The first time on a copy, so that a wrong one changes nothing.
        self.copy()._apply(params)
        self._apply(params)
        return self

    def _apply(self, params: Mapping[str, Any]) -> None:
        own = {name: value for name, value in params.items() if "__" not in name}
        unknown = [name for name in own if not (name in self._parameters.by_name or self._parameters.takes_others)]
        if unknown:
            raise InvalidValueError(self._unknown(unknown))
        for name, value in own.items():
            self._put(name, self._convert(name, value))
        for name, value in params.items():
            if "__" in name:
                self._set_inner(name, value)

    def _set_inner(self, name: str, value: Any) -> None:
        outer, _, inner = name.partition("__")
        inside = dict(_stages_in(outer, self._values.get(outer)))
        index, _, rest = inner.partition("__")
        if outer in inside:
            inside[outer].set_params(**{inner: value})
        elif rest and f"{outer}__{index}" in inside:
            inside[f"{outer}__{index}"].set_params(**{rest: value})
        elif f"{outer}__{index}" in inside:
            self._values[outer][int(index)] = self._one_stage(f"{outer}__{index}", value)
        else:
            raise InvalidValueError(self._unknown([name]))

    def _get(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        default = self._parameters.by_name[name].default
        return list(default) if isinstance(default, list) else default

    def _put(self, name: str, value: Any) -> None:
        """Keep a converted value. What equals the default is not kept, so that equal descriptions make equal objects."""
        parameter = self._parameters.by_name.get(name)
        is_default = parameter is not None and self._parameters.exact_defaults and equal(value, parameter.default)
        if is_default or (value is None and parameter is not None and parameter.param is not None):
            self._values.pop(name, None)
        else:
            self._values[name] = value

    def _convert(self, name: str, value: Any) -> Any:
        parameter = self._parameters.by_name.get(name) or Parameter(name, None, True, None)
        if value is None:
            return None
        key = (self.spark_class.__module__, self.spark_class.__name__, name)
        if key in _ONE_STAGE:
            return self._one_stage(name, value)
        if key in _LIST_OF_STAGES:
            if not isinstance(value, list | tuple):
                raise InvalidTypeError(f"{name} of {type(self).__name__} must be a list of stages, got {value!r}")
            return [self._one_stage(f"{name}__{index}", item) for index, item in enumerate(value)]
        return _described(parameter.convert(type(self).__name__, value))

    def _one_stage(self, name: str, value: Any) -> Stage:
        stage = _described(value)
        if isinstance(stage, type):
            raise InvalidTypeError(
                f"{name} of {type(self).__name__} must be an object, got the class: {stage.__name__}()"
            )
        if not isinstance(stage, Stage):
            raise InvalidTypeError(f"{name} of {type(self).__name__} must be a stage of Spark ML, got {value!r}")
        return stage

    def _unknown(self, names: Iterable[str]) -> str:
        several = ", ".join(repr(name) for name in names)
        return f"{type(self).__name__} has no parameter {several}; it has {', '.join(self._get_param_names())}"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and (name in self._parameters.by_name or name in self._values):
            return self._get(name)
        raise AttributeError(
            f"{type(self).__name__} has no attribute {name!r}"
            + (
                "; it is a description, and to_spark() makes the object of Spark that has it"
                if not name.startswith("_") and hasattr(self.spark_class, name)
                else ""
            )
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._parameters.by_name and name not in self._values:
            raise AttributeError(self._unknown([name]))
        self.set_params(**{name: value})

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters.by_name})

    # ---- the real object -------------------------------------------------------------------------------------------

    def to_spark(self) -> Any:
        """Make the object of Spark ML.

        Returns
        -------
        pyspark.ml.Transformer or pyspark.ml.Estimator
            A new one with these values. Stages that are values become real ones, too.

        Raises
        ------
        SessionStoppedError
            When no Spark session runs and the class has its other half in the JVM.

        Examples
        --------
        >>> from raydp_ml.feature import StringIndexer
        >>> StringIndexer(inputCol="carrier", outputCol="index").to_spark().fit(df)  # doctest: +SKIP
        """
        from pyspark.ml.wrapper import JavaWrapper
        from pyspark.sql.utils import is_remote

        from raydp_ml.cluster.spark_seam import active_context

        if issubclass(self.spark_class, JavaWrapper) and active_context() is None and not is_remote():
            raise SessionStoppedError(
                f"{type(self).__name__}.to_spark() needs a Spark session, and none runs in this process: call "
                "raydp_ml.init_spark(...) first, or give the pipeline spark=dict(num_executors=2, ...)"
            )
        real = {name: _materialised(value) for name, value in self._values.items()}
        by_setter = {
            name: real.pop(name)
            for name, parameter in self._parameters.by_name.items()
            if name in real and not parameter.in_constructor
        }
        stage = self.spark_class(**real)
        for name, value in by_setter.items():
            stage.set(stage.getParam(name), value)
        return stage

    # ---- copies, equality, looks -----------------------------------------------------------------------------------

    def copy(self) -> Stage:
        """An independent copy; stages that are values are copied, too."""
        twin = object.__new__(type(self))
        object.__setattr__(twin, "_values", {name: _copied(value) for name, value in self._values.items()})
        return twin

    def __sklearn_clone__(self) -> Stage:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        # The class of Spark says which description this is: those of a user's class have no name to be found by.
        return _restore, (self.spark_class, self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stage):
            return NotImplemented
        if self.spark_class is not other.spark_class:
            return False
        mine, others = self.get_params(deep=False), other.get_params(deep=False)
        return mine.keys() == others.keys() and all(equal(value, others[name]) for name, value in mine.items())

    def __hash__(self) -> int:
        # The values may change, the class does not.
        return hash(self.spark_class)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        # The argument is scikit-learn's; this text is never shortened, so that it can be evaluated.
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"url": reference_url(self.spark_class)}

    # ---- the plain form --------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Class and values with nothing but JSON's types in it; :func:`from_dict` is the way back.

        Returns
        -------
        dict
            ``class``, the qualified name of the class of Spark, and ``params``, the values that differ from the defaults.

        Raises
        ------
        InvalidTypeError
            When a value, such as a function given to a user's own stage, has no such form.

        Examples
        --------
        >>> from raydp_ml.feature import Binarizer
        >>> Binarizer(threshold=0.5).to_dict()
        {'class': 'pyspark.ml.feature.Binarizer', 'params': {'threshold': 0.5}}
        """
        params = {
            name: to_plain(value, f"{name} of {type(self).__name__}", _plain_stage)
            for name, value in self._values.items()
        }
        return {"class": f"{self.spark_class.__module__}.{self.spark_class.__qualname__}", "params": params}


def from_dict(description: Mapping[str, Any], resolve: Callable[[str], type]) -> Stage:
    """The description that :meth:`Stage.to_dict` wrote.

    Parameters
    ----------
    description : mapping
        ``class`` and ``params``.
    resolve : callable
        Gives the class of this qualified name, and decides which may be used: nothing else here imports or runs what a file names.

    Returns
    -------
    Stage
        An equal description.

    Raises
    ------
    InvalidValueError
        When the mapping, or a class that it names, is something else.
    """
    if not isinstance(description, Mapping) or not {"class", "params"} <= set(description):
        raise InvalidValueError(f"this is no description of a stage of Spark ML: {description!r}")
    spark_class = resolve(description["class"])
    values = {
        name: from_plain(value, lambda inner: from_dict(inner, resolve))
        for name, value in description["params"].items()
    }
    try:
        return stage_type(spark_class)(**values)
    except InvalidTypeError as error:
        raise InvalidValueError(f"{description['class']} cannot be made as it was written: {error}") from error


def describe(stage: Any, **params: Any) -> Stage:
    """Describe a user's own stage, or any other of Spark ML, by its class or by an object.

    Parameters
    ----------
    stage : type or pyspark.ml.Transformer or pyspark.ml.Estimator
        A subclass of pyspark.ml's Transformer or Estimator; or an object that was not fitted, of which the values that are set
        are taken.
    **params
        Values of its parameters: those of its constructor, and its Params.

    Returns
    -------
    Stage
        The description.

    Raises
    ------
    InvalidTypeError
        When it is no stage or a fitted one, or a parameter is wrong.

    Examples
    --------
    >>> from pyspark.ml import Transformer
    >>> from pyspark.ml.param.shared import HasInputCol
    >>> class Drop(Transformer, HasInputCol):
    ...     def _transform(self, dataset):
    ...         return dataset.drop(self.getInputCol())
    >>> describe(Drop, inputCol="carrier")
    Drop(inputCol='carrier')
    """
    if isinstance(stage, Stage):
        return stage.copy().set_params(**params)
    spark_class: Any = stage if isinstance(stage, type) else type(stage)
    kind = stage_type(spark_class)
    if spark_class is stage:
        return kind(**params)
    hidden = [name for name, parameter in kind._parameters.by_name.items() if parameter.param is None]
    if hidden or kind._parameters.takes_others:
        raise InvalidTypeError(
            f"the arguments {', '.join(hidden) or '**kwargs'} of this {kind.__name__} are no Params, so that they cannot be "
            f"read from the object; describe the class: describe({kind.__name__}, ...)"
        )
    given = {param.name: stage.getOrDefault(param) for param in stage.params if stage.isSet(param)}
    return kind(**{**given, **params})


@cache
def stage_type(spark_class: type) -> type[Stage]:
    """The subclass of Stage that describes a class of Spark ML, always the same for a class.

    Parameters
    ----------
    spark_class : type
        A Transformer or Estimator that a user constructs.

    Returns
    -------
    type
        Its name, documentation and signature are those of the class.

    Raises
    ------
    InvalidTypeError
        For another class, the class of a fitted model included.
    """
    from pyspark.ml import Estimator, Model, Transformer

    if not (isinstance(spark_class, type) and issubclass(spark_class, Estimator | Transformer)):
        raise InvalidTypeError(f"a stage must be a Transformer or Estimator of pyspark.ml, got {spark_class!r}")
    if issubclass(spark_class, Model):
        raise InvalidTypeError(
            f"{spark_class.__name__} is what fitting makes, and its learnt values live in Spark: describe the Estimator, or "
            "use the fitted object itself as a step"
        )
    parameters = parameters_of(spark_class)
    own = spark_class.__module__.startswith("pyspark.ml.")
    home = "raydp_ml.feature" if spark_class.__module__ == "pyspark.ml.feature" else "raydp_ml.feature.ml"
    return type(
        spark_class.__name__,
        (Stage,),
        {
            "__init__": _constructor(spark_class, parameters),
            "__doc__": docstring(spark_class, parameters),
            "__module__": home if own else spark_class.__module__,
            "spark_class": spark_class,
            "is_estimator": issubclass(spark_class, Estimator),
            "_parameters": parameters,
        },
    )


def _constructor(spark_class: type, parameters: Parameters) -> Callable[..., None]:
    """A constructor that shows the parameters in its signature, for people, editors and scikit-learn."""

    def __init__(self: Stage, **params: Any) -> None:
        Stage.__init__(self, **params)

    keyword, others = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD
    shown = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for parameter in parameters.by_name.values():
        shown.append(
            inspect.Parameter(parameter.name, keyword, default=parameter.default, annotation=parameter.annotation)
        )
    if parameters.takes_others:
        shown.append(inspect.Parameter("params", others))
    __init__.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{spark_class.__name__}.__init__"
    return __init__


def _restore(spark_class: type, values: dict[str, Any]) -> Stage:
    return stage_type(spark_class)(**values)


def _plain_stage(value: Any) -> dict[str, Any] | None:
    return value.to_dict() if isinstance(value, Stage) else None


def _stages_in(name: str, value: Any) -> list[tuple[str, Stage]]:
    """The stages that a value is or holds, by their paths."""
    if isinstance(value, Stage):
        return [(name, value)]
    if isinstance(value, list):
        return [(f"{name}__{index}", item) for index, item in enumerate(value) if isinstance(item, Stage)]
    return []


def _described(value: Any) -> Any:
    """The value with real stages of Spark described, also in a list."""
    from pyspark.ml import Estimator, Transformer

    if isinstance(value, list | tuple):
        return type(value)([_described(item) for item in value]) if type(value) in (list, tuple) else value
    return describe(value) if isinstance(value, Estimator | Transformer) else value


def _materialised(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_materialised(item) for item in value]
    return value.to_spark() if isinstance(value, Stage) else value


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value.copy() if isinstance(value, Stage) else value
