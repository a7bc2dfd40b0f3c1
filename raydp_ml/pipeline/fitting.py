"""What a fit settles before it trains: weights, rows to validate on, the state of before, and rows that are read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.registry import open_frame
from raydp_ml.names import quoted
from raydp_ml.pipeline.steps import NamedStep, described, feature_step, final_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["given_weights", "goes_on", "read_once", "split_rows"]


@contextmanager
def read_once(df: DataFrame, reads: int) -> Iterator[DataFrame]:
    """A frame that is computed once although it is read several times.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        The frame.
    reads : int
        How often it will be read.

    Yields
    ------
    pyspark.sql.DataFrame
        The frame. Spark keeps its rows, in memory and where that is full on disk, until the block ends; unless it is read once
        only or the user has persisted it, which stays so.
    """
    level = df.storageLevel
    if reads < 2 or level.useMemory or level.useDisk or level.useOffHeap:
        yield df
        return
    df.persist()
    try:
        yield df
    finally:
        df.unpersist()


def given_weights(sample_weight: Any, routed: Mapping[str, Any], final: NamedStep | None) -> Any:
    """The weights that a caller of fit gave, by itself or as ``NAME__sample_weight``; None without any.

    Parameters
    ----------
    sample_weight : array-like or None
        What was given by itself.
    routed : mapping
        What was given by other names.
    final : (name, estimator) or None
        The last step, if it is an estimator.
    """
    name = None if final is None else f"{final[0]}__sample_weight"
    unknown = sorted(set(routed) - {name})
    if unknown or (name is None and sample_weight is not None):
        raise InvalidTypeError(
            f"fit got {', '.join(map(repr, unknown)) or 'sample_weight'}; it takes sample_weight"
            + (f", also as {name!r}," if name is not None else " when the last step is an estimator,")
            + " and parameters of steps are set with set_params"
        )
    if not routed:
        return sample_weight
    if sample_weight is not None:
        raise InvalidValueError(f"sample_weight and {name} are the same; give one")
    return routed[str(name)]


def goes_on(final: NamedStep, was: Mapping[str, tuple[str, str]], before: Sequence[NamedStep]) -> bool:
    """Whether a fit of a fitted pipeline trains on from its state.

    Parameters
    ----------
    final : (name, estimator)
        The last step.
    was : mapping
        :func:`~raydp_ml.pipeline.steps.described` of the feature steps that were fitted.
    before : sequence of (name, step)
        The feature steps as they are given now.

    Raises
    ------
    InvalidValueError
        When it would, and the feature steps were changed in between.
    """
    step = final_of(final[1])
    if step is None or not step.goes_on:
        return False
    now = described(before)
    if list(was.items()) != list(now.items()):
        changed = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
        raise InvalidValueError(
            "the estimator has warm_start=True and would train on, but feature steps were changed since it was fitted: "
            f"{', '.join(map(repr, changed)) or 'their order'}; set warm_start=False, or clone the pipeline"
        )
    return True


def split_rows(
    rows: DataFrame, before: Sequence[NamedStep], final: NamedStep | None, session: Callable[[], SparkSession]
) -> tuple[DataFrame, DataFrame | None]:
    """The rows that feature steps may learn from, and those that the last step validates on.

    Parameters
    ----------
    rows : pyspark.sql.DataFrame
        All training rows.
    before : sequence of (name, step)
        The feature steps.
    final : (name, estimator) or None
        The last step, if it is an estimator.
    session : callable
        Gives the Spark session.

    Returns
    -------
    train : pyspark.sql.DataFrame
        The rows to fit on.
    held_out : pyspark.sql.DataFrame or None
        Rows of the same columns; None when the last step validates on none, or no feature step learns, so that the estimator can
        choose them itself.
    """
    import pyspark.sql.functions as F

    step = None if final is None else final_of(final[1])
    if step is None or step.validation is None:
        return rows, None
    validation = step.validation
    learns = any(feature_step(name, value).learns for name, value in before)
    if isinstance(validation, float):
        if not learns or not 0 < validation < 1:
            return rows, None
        train, held_out = rows.randomSplit([1 - validation, validation], seed=step.seed)
        return train, held_out
    if isinstance(validation, str):
        if not learns or validation not in rows.columns:
            return rows, None
        chosen = F.coalesce(F.col(quoted(validation)).cast("boolean"), F.lit(False))
        return rows.where(~chosen).drop(validation), rows.where(chosen).drop(validation)
    frame = open_frame(validation)
    return (rows, None) if frame is None else (rows, frame.to_spark(session))
