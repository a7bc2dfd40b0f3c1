"""Folds of a Spark frame behind the steps of a pipeline."""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.frames.registry import require_frame
from raydp_ml.frames.table import collect
from raydp_ml.names import quoted
from raydp_ml.pipeline.steps import NamedStep, apply_steps, feature_step, fit_steps
from raydp_ml.search.folds.columns import load, named_columns, select_columns
from raydp_ml.search.folds.crossed import CrossedFold, row_numbers
from raydp_ml.search.folds.fitted import FittedSteps
from raydp_ml.search.folds.fold import Fold
from raydp_ml.search.folds.splits import TEST, TRAIN, Splits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["AskedFolds", "PipelineSource", "Prefix"]

_ID = "__raydp_ml_id__"
_PART = "__raydp_ml_part__"
_NO_PREFIX = -1


Prefix = Callable[[], tuple[list[NamedStep], Any]]
"""Gives new steps of one prefix, and an estimator that decides on the columns."""


@dataclass
class AskedFolds:
    """Folds that the driver's Spark makes when a trial asks for them, through the broker."""

    broker: Any

    def fold(self, prefix: int, number: int) -> Fold:
        """One fold; waits for it to be made."""
        import ray

        crossed: CrossedFold | BaseException = ray.get(self.broker.get.remote((prefix, number)))
        if isinstance(crossed, BaseException):
            raise crossed
        return crossed.read()


class PipelineSource:
    """Folds of a Spark frame behind the steps of a pipeline.

    Steps that neither learn nor look at other rows make one frame for all folds. Others are fitted on the training rows of
    each fold, once for all prefixes that begin with them. Where fitted steps look at no other row, all rows of the fold go
    through them in one pass; else training and test rows go through apart, as in scikit-learn. Both cross together.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        The rows.
    label : tuple of str
        Label columns.
    extra : sequence of str
        Columns of groups or folds, which are taken out of the rows.
    as_codes : bool
        Whether codes of labels and groups will do to divide the rows.
    """

    def __init__(self, df: DataFrame, label: tuple[str, ...], extra: Sequence[str], *, as_codes: bool) -> None:
        import pyspark.sql.functions as F

        for name in (*label, *extra):
            if name not in df.columns:
                raise InvalidValueError(
                    f"the Spark DataFrame has no column {name!r} (its columns: {', '.join(df.columns)})"
                )
        self._spark = df.sparkSession
        self._group = f"raydp_ml_search_{uuid.uuid4().hex}"
        self._made: dict[tuple[int, int | None], tuple[CrossedFold, Any]] = {}
        # Two prefixes are made at the same time, but what several folds share is made once.
        self._locks: defaultdict[tuple[int, int | None], threading.Lock] = defaultdict(threading.Lock)
        self._prefixes: list[Prefix] = []
        self._fitted: list[FittedSteps] = []
        self._members: dict[int, Any] = {}
        self._splits = Splits([])
        self._code_refs: list[Any] = []
        # Cached, so that rows keep their numbers and the source is read once.
        self._cached = df.withColumn(_ID, F.monotonically_increasing_id()).persist()
        try:
            table = collect(self._cached.select(_ID, *[F.col(quoted(name)) for name in (*label, *extra)]))
            self.columns = named_columns(
                label, extra, [table.column(place) for place in range(1, table.num_columns)], as_codes=as_codes
            )
            self._offsets = _offsets(table[_ID].to_numpy())
        except BaseException:
            self.close()
            raise
        # Columns of groups and folds serve the search and are no features.
        self._rows = self._cached.drop(*[name for name in extra if name not in label])

    def prepare(self, splits: Splits) -> None:
        """Take the splits."""
        import ray

        self._splits = splits
        self._code_refs = [ray.put(code) for code in splits]
        self._fitted = [FittedSteps() for _ in splits]

    def add(self, prefix: Prefix) -> int:
        """Take one more prefix, and give its number."""
        self._prefixes.append(prefix)
        return len(self._prefixes) - 1

    def make(self, prefix: int, number: int) -> CrossedFold:
        """One fold of one prefix; fits and crosses what was not fitted and crossed before."""
        self._spark.sparkContext.setJobGroup(self._group, "search", interruptOnCancel=True)
        steps, estimator = self._prefixes[prefix]()
        shared = all(feature_step(name, value).row_wise for name, value in steps)
        key = (prefix, None if shared else number)
        with self._locks[key]:
            if key not in self._made:
                made = self._cross_once(steps, estimator) if shared else self._cross(steps, estimator, number)
                self._made[key] = made
            fold, _ = self._made[key]
        return self._divided(fold, number) if shared else fold

    def _cross_once(self, steps: list[Any], estimator: Any) -> tuple[CrossedFold, Any]:
        _, frame, vector = fit_steps(steps, self._rows)
        return self._crossed(frame.drop(_ID), frame, estimator, vector, _ID)

    def _cross(self, steps: list[Any], estimator: Any, number: int) -> tuple[CrossedFold, Any]:
        import pyspark.sql.functions as F

        member = self._member(number)
        train, test = (self._rows.where(member(F.col(_ID)) == F.lit(side)).drop(_ID) for side in (TRAIN, TEST))
        fits, covered = self._fitted[number], bool(np.isin(self._splits.codes[number], (TRAIN, TEST)).all())
        learning = fits.learning(steps)
        if learning > 1 or (learning and not covered):
            train = train.persist()
        try:
            fitted, after, vector = fits.fit(steps, train)
            if covered and all(feature_step(name, value).row_wise for name, value in fitted):
                # What becomes of a row does not depend on others, so all rows go through in one pass, and trials divide them.
                rows = apply_steps(fitted, self._rows)
                fold, blocks = self._crossed(after, rows, estimator, vector, _ID)
                return self._divided(fold, number), blocks
            both = after.withColumn(_PART, F.lit(TRAIN)).unionByName(
                apply_steps(fitted, test).withColumn(_PART, F.lit(TEST))
            )
            return self._crossed(after, both, estimator, vector, _PART)
        finally:
            train.unpersist()

    def _member(self, number: int) -> Any:
        """The column function of a split; what it looks up reaches each executor once."""
        with self._locks[_NO_PREFIX, number]:
            if number not in self._members:
                self._members[number] = _member_column(self._spark, self._splits.codes[number], self._offsets)
            return self._members[number]

    def _divided(self, fold: CrossedFold, number: int) -> CrossedFold:
        """Rows that carry their ids, divided as a split says."""
        return replace(fold, codes=self._code_refs[number], offsets=self._offsets)

    def _crossed(
        self, described: DataFrame, rows: DataFrame, estimator: Any, vector: str | None, membership: str
    ) -> tuple[CrossedFold, Any]:
        seen = require_frame(described)
        selection = select_columns(estimator, seen, vector)
        blocks = load(require_frame(rows), selection, [membership])
        fold = CrossedFold(blocks.refs, blocks.selection, seen.columns(), selection, vector_column=vector)
        return fold, blocks

    def release(self, prefix: int) -> None:
        """Let the blocks of a prefix go."""
        for key in [key for key in self._made if key[0] == prefix]:
            del self._made[key]

    def cancel(self) -> None:
        """Stop the Spark jobs of :meth:`make`."""
        self._spark.sparkContext.cancelJobGroup(self._group)

    def close(self) -> None:
        """Free the cached rows and everything that crossed."""
        self._made = {}
        self._cached.unpersist()


def _offsets(identifiers: np.ndarray) -> np.ndarray:
    """For each Spark partition, the number of its first row."""
    partitions = identifiers >> 33
    counts = np.bincount(partitions) if len(partitions) else np.zeros(1, np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
    if not np.array_equal(row_numbers(identifiers, offsets), np.arange(len(identifiers))):
        raise InvalidValueError("the rows of the Spark DataFrame did not come in the order of its partitions")
    return offsets


def _member_column(spark: Any, codes: np.ndarray, offsets: np.ndarray) -> Any:
    """A column function from row ids to what the rows are in one split."""
    import pyspark.sql.functions as F

    functions: Any = F
    shared = spark.sparkContext.broadcast((codes, offsets))

    def look_up(identifiers: Any) -> Any:
        codes, offsets = shared.value
        return codes[row_numbers(np.asarray(identifiers), offsets)].astype("int32")

    if hasattr(F, "arrow_udf"):
        import pyarrow as pa

        def member(identifiers: pa.Array) -> pa.Array:
            return pa.array(look_up(identifiers))

        member.__annotations__ = {"identifiers": pa.Array, "return": pa.Array}
        return functions.arrow_udf(member, returnType="int")

    import pandas as pd

    def member_pandas(identifiers: Any) -> Any:
        return pd.Series(look_up(identifiers))

    # Set by hand: pandas is imported here only, and Spark resolves written hints at module level.
    member_pandas.__annotations__ = {"identifiers": pd.Series, "return": pd.Series}
    return functions.pandas_udf(member_pandas, returnType="int")
