"""The kinds of steps of a pipeline, a class each, and lists of steps that are fitted and applied in order.

To add a kind, write its class in a file of its own and name it in ``KINDS``; :mod:`raydp_ml.pipeline.steps.step` says what a
kind can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.pipeline.steps.collected import CollectedStep
from raydp_ml.pipeline.steps.description import DescriptionStep
from raydp_ml.pipeline.steps.estimator import EstimatorStep
from raydp_ml.pipeline.steps.function import FunctionStep
from raydp_ml.pipeline.steps.passthrough import PassthroughStep
from raydp_ml.pipeline.steps.spark_stage import SparkStageStep
from raydp_ml.pipeline.steps.sql import THIS, SQLStep
from raydp_ml.pipeline.steps.step import NOTHING, Beside, FeatureStep, Final, FinalStep, Step
from raydp_ml.progress import waiting_for

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = [
    "KINDS",
    "Beside",
    "FeatureStep",
    "Final",
    "FinalStep",
    "NamedStep",
    "Step",
    "apply_steps",
    "described",
    "feature_step",
    "final_of",
    "fit_final",
    "fit_steps",
    "is_final",
    "kind_named",
    "reads_of",
    "step_of",
]

NamedStep = tuple[str, Any]
"""The name of a step and its value, as users write them."""

# The order is that of recognition: what is more special comes before what is more general, and any callable is a function.
KINDS: tuple[type[Step], ...] = (
    PassthroughStep,
    SQLStep,
    SparkStageStep,
    DescriptionStep,
    CollectedStep,
    EstimatorStep,
    FunctionStep,
)

_KINDS_BY_NAME = {kind.kind: kind for kind in KINDS}


def step_of(value: Any) -> Step:
    """The step that a value is.

    Parameters
    ----------
    value : object
        What a user gave as a step, or the fitted form of it.

    Returns
    -------
    Step
        An object of the class of its kind.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        When it is a step of no kind.

    Examples
    --------
    >>> from raydp_ml.pipeline.steps import step_of
    >>> step_of("SELECT a + b AS c FROM __THIS__").kind
    'sql'
    """
    if isinstance(value, type):
        raise InvalidTypeError(f"a step must be an object, got the class {value.__name__}; write {value.__name__}(...)")
    for kind in KINDS:
        if kind.recognise(value):
            return kind(value)
    raise InvalidTypeError(
        f"a step must be a pyspark.ml Transformer or Estimator, a function from DataFrame to DataFrame, a SQL string over "
        f"{THIS}, or last an estimator of raydp_ml or scikit-learn; got {value!r}"
    )


def kind_named(name: str) -> type[Step]:
    """The kind that is called so in saved directories and pickles.

    Parameters
    ----------
    name : str
        ``Step.kind`` of one of the kinds.

    Returns
    -------
    type
        Its class.

    Raises
    ------
    InvalidValueError
        When there is none, as in a damaged directory.
    """
    if name not in _KINDS_BY_NAME:
        raise InvalidValueError(f"there is no kind of step {name!r}; there are {', '.join(_KINDS_BY_NAME)}")
    return _KINDS_BY_NAME[name]


def is_final(value: Any) -> bool:
    """Whether a value is a step that trains on what the others make, and must be the last."""
    return isinstance(step_of(value), FinalStep)


def final_of(value: Any) -> Final | None:
    """What a value is as the last step, if it then predicts: an estimator, or a predictor of Spark ML; otherwise None."""
    step = step_of(value)
    if isinstance(step, Final):
        return step
    return step.as_final() if isinstance(step, FeatureStep) else None


def described(steps: Sequence[NamedStep]) -> dict[str, tuple[str, str]]:
    """What each step is, by its name, in words that change when its parameters do."""
    return {name: step_of(value).describe() for name, value in steps}


def reads_of(steps: Sequence[NamedStep], final: NamedStep | None) -> int:
    """How often a fit reads the training rows: once for each step that learns, and for the last one as often as it does."""
    last = None if final is None else final_of(final[1])
    return sum(feature_step(name, value).learns for name, value in steps) + (0 if last is None else last.reads)


def fit_steps(
    steps: Sequence[NamedStep], df: DataFrame, known: Sequence[NamedStep] = ()
) -> tuple[list[NamedStep], DataFrame, str | None]:
    """Fit feature steps in order.

    Parameters
    ----------
    steps : sequence of (name, step)
        Steps of which none is an estimator of ours.
    df : pyspark.sql.DataFrame
        Training rows.
    known : sequence of (name, step)
        The first of the steps, fitted on these rows before; they are not fitted again.

    Returns
    -------
    fitted : list of (name, step)
        New objects; those given are left as they are.
    frame : pyspark.sql.DataFrame
        The rows after all steps, lazy.
    vector_column : str or None
        The last vector column that a step made.
    """
    fitted: list[NamedStep] = []
    vector = None
    for place, (name, value) in enumerate(steps):
        if place < len(known):
            done = feature_step(*known[place])
        else:
            with waiting_for(f"Spark computes, to fit the step {name!r}"):
                done = feature_step(name, feature_step(name, value).fit(df))
        after = done.apply(name, df)
        vector = done.vector_column(df, after) or vector
        fitted.append((name, done.value))
        df = after
    return fitted, df, vector


def fit_final(
    final: NamedStep,
    df: DataFrame,
    vector_column: str | None,
    beside: Beside = NOTHING,
) -> NamedStep:
    """The last step, fitted on what the feature steps made.

    Parameters
    ----------
    final : (name, estimator)
        A step of a kind that trains; it is left as it is.
    df : pyspark.sql.DataFrame
        The second of what :func:`fit_steps` returned.
    vector_column : str or None
        The third.
    beside : Beside, optional
        What the fit goes by besides.

    Returns
    -------
    (name, estimator)
        A new fitted estimator.
    """
    name, value = final
    step = final_of(value)
    if step is None:
        raise InvalidTypeError(f"step {name!r}, a {type(value).__name__}, is no estimator")
    return name, step.fit(df, vector_column, beside)


def apply_steps(fitted: Sequence[NamedStep], df: DataFrame) -> DataFrame:
    """The frame after steps that :func:`fit_steps` fitted.

    Parameters
    ----------
    fitted : sequence of (name, step)
        Fitted feature steps.
    df : pyspark.sql.DataFrame
        Rows.

    Returns
    -------
    pyspark.sql.DataFrame
        Lazy.
    """
    for name, value in fitted:
        df = feature_step(name, value).apply(name, df)
    return df


def feature_step(name: str, value: Any) -> FeatureStep:
    """The step of a value that must make a frame of a frame.

    Parameters
    ----------
    name : str
        Name of the step, for messages.
    value : object
        What a user gave, or the fitted form of it.

    Raises
    ------
    InvalidTypeError
        When it is an estimator, which can only be the last step.
    """
    step = step_of(value)
    if not isinstance(step, FeatureStep):
        raise InvalidTypeError(f"step {name!r}, a {type(value).__name__}, is an estimator and must be the last step")
    return step
