"""Where a search gets its folds from: arrays, one crossed frame, or the steps of a pipeline in Spark."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.arrays import null_mask, plain_values
from raydp_ml.frames.columns import Selection, names_of, resolve
from raydp_ml.frames.registry import open_frame
from raydp_ml.frames.table import collect
from raydp_ml.names import quoted
from raydp_ml.pipeline.steps import apply_steps, feature_step, fit_steps
from raydp_ml.search.rows import TEST, TRAIN, CrossedFold, row_numbers

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["FrameSource", "PipelineSource", "label_names", "membership_codes", "prefix_keys"]

_ID = "__raydp_ml_id__"
_PART = "__raydp_ml_part__"


def label_names(estimator: Any) -> tuple[str, ...]:
    """The label columns of an estimator, of which a frame needs at least one."""
    names = names_of(getattr(estimator, "label_column", None), "label_column")
    if not names:
        raise InvalidValueError(
            f"label_column of {type(estimator).__name__} is not given: name the column that holds the label"
        )
    return names


def select_columns(estimator: Any, frame: Any, vector_column: str | None) -> Selection:
    """The columns of a frame that the estimator would train on."""
    validation = getattr(estimator, "validation", None)
    if validation is not None and not isinstance(validation, str | float):
        raise InvalidTypeError(
            "in a search, validation must be a fraction or the name of a column, not rows of its own"
        )
    roles = {**estimator.role_columns(), "validation": validation if isinstance(validation, str) else None}
    return resolve(
        frame,
        feature_columns=estimator.feature_columns,
        label=label_names(estimator),
        roles={role: name for role, name in roles.items() if name is not None},
        never=(estimator.prediction_column, estimator.probability_column),
        vector_column=vector_column,
    )


def load(frame: Any, selection: Selection, extra: Sequence[str]) -> Any:
    """Cross the selected columns and further ones, which come last among the labels."""
    return frame.load(Selection(selection.features, (*selection.label, *extra), selection.roles))


def membership_codes(splits: Sequence[tuple[np.ndarray, np.ndarray]], rows: int) -> list[np.ndarray]:
    """For each split, what each row is: TRAIN, TEST or neither.

    Examples
    --------
    >>> [codes.tolist() for codes in membership_codes([([0, 2], [1])], 4)]
    [[1, 2, 1, 0]]
    """
    codes = []
    for train, test in splits:
        code = np.zeros(rows, np.uint8)
        code[train] = TRAIN
        code[test] = TEST
        codes.append(code)
    return codes


class FrameSource:
    """Folds of a Spark frame or a Ray Dataset that no step changes: it crosses once.

    Parameters
    ----------
    estimator : estimator
        It decides on the columns.
    X : frame
        The rows.
    extra : sequence of str
        Columns of groups or folds.
    """

    def __init__(self, estimator: Any, X: Any, extra: Sequence[str]) -> None:
        import ray

        frame: Any = open_frame(X)
        self._selection = select_columns(estimator, frame, None)
        self._described = [column for column in frame.columns() if column.name not in extra]
        self._blocks = load(frame, self._selection, extra)
        tables = ray.get(self._blocks.refs)
        self._starts = [0, *np.cumsum([table.num_rows for table in tables]).tolist()]
        names = self._blocks.selection.label
        pulled = [np.concatenate([plain_values(table[name]) for table in tables]) for name in names]
        count = len(self._selection.label)
        self._crossed = Selection(self._blocks.selection.features, names[:count], self._blocks.selection.roles)
        self.columns = _named_columns(self._selection.label, pulled, extra)

    def folds(self, splits: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[CrossedFold]:
        """The folds of these splits."""
        import ray

        return [
            CrossedFold(
                self._blocks.refs,
                self._crossed,
                self._described,
                self._selection,
                codes=ray.put(code),
                starts=self._starts[:-1],
            )
            for code in membership_codes(splits, self._starts[-1])
        ]


def _named_columns(label: Sequence[str], pulled: list[np.ndarray], extra: Sequence[str]) -> dict[str, np.ndarray]:
    """Labels under ``"y"``, further columns under their names; null labels are an error before anything is fitted."""
    labels = pulled[: len(label)]
    y = labels[0] if len(labels) == 1 else np.column_stack(labels)
    missing = int(null_mask(y).sum())
    if missing:
        raise InvalidValueError(
            f"the label {', '.join(label)!r} is null or NaN in {missing} of {len(y)} rows; drop or fill them"
        )
    return {"y": y, **dict(zip(extra, pulled[len(labels) :], strict=True))}


class PipelineSource:
    """Folds of a Spark frame behind the steps of a pipeline.

    Steps that neither learn nor look at other rows make one frame for all folds. For others the steps are fitted on the
    training rows of each fold, and training and test rows go through them apart, as in scikit-learn, and cross together.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        The rows.
    label : tuple of str
        Label columns.
    extra : sequence of str
        Columns of groups or folds, which are taken out of the rows.
    """

    def __init__(self, df: DataFrame, label: tuple[str, ...], extra: Sequence[str]) -> None:
        import pyspark.sql.functions as F

        for name in (*label, *extra):
            if name not in df.columns:
                raise InvalidValueError(
                    f"the Spark DataFrame has no column {name!r} (its columns: {', '.join(df.columns)})"
                )
        self._spark = df.sparkSession
        self._made: dict[tuple[int, int | None], tuple[CrossedFold, Any]] = {}
        self._group = f"raydp_ml_search_{uuid.uuid4().hex}"
        # Cached, so that rows keep their numbers and the source is read once.
        self._rows = df.withColumn(_ID, F.monotonically_increasing_id()).persist()
        try:
            table = collect(self._rows.select(_ID, *[F.col(quoted(name)) for name in (*label, *extra)]))
            pulled = [plain_values(table[place]) for place in range(1, table.num_columns)]
            self.columns = _named_columns(label, pulled, extra)
            self._offsets = _offsets(table[_ID].to_numpy())
        except BaseException:
            self.close()
            raise
        # Columns of groups and folds serve the search and are no features.
        self._rows = self._rows.drop(*[name for name in extra if name not in label])
        self._prefixes: list[Callable[[], tuple[list[Any], Any]]] = []
        self._codes: list[np.ndarray] = []
        self._code_refs: list[Any] = []

    def prepare(
        self,
        splits: Sequence[tuple[np.ndarray, np.ndarray]],
        prefixes: list[Callable[[], tuple[list[Any], Any]]],
    ) -> None:
        """Take the splits, and for each prefix what builds its steps and an estimator that decides on the columns."""
        import ray

        self._codes = membership_codes(splits, len(self.columns["y"]))
        self._code_refs = [ray.put(code) for code in self._codes]
        self._prefixes = prefixes

    def make(self, prefix: int, number: int) -> CrossedFold:
        """One fold of one prefix; fits and crosses what was not fitted and crossed before."""
        self._spark.sparkContext.setJobGroup(self._group, "search", interruptOnCancel=True)
        steps, estimator = self._prefixes[prefix]()
        shared = all(feature_step(name, value).row_wise for name, value in steps)
        key = (prefix, None if shared else number)
        if key not in self._made:
            self._made[key] = self._cross_once(steps, estimator) if shared else self._cross(steps, estimator, number)
        fold, _ = self._made[key]
        if not shared:
            return fold
        return replace(fold, codes=self._code_refs[number], offsets=self._offsets)

    def _cross_once(self, steps: list[Any], estimator: Any) -> tuple[CrossedFold, Any]:
        _, frame, vector = fit_steps(steps, self._rows)
        return self._crossed(open_frame(frame.drop(_ID)), open_frame(frame), estimator, vector, _ID)

    def _cross(self, steps: list[Any], estimator: Any, number: int) -> tuple[CrossedFold, Any]:
        import pyspark.sql.functions as F

        member = _member_column(self._spark, self._codes[number], self._offsets)
        train, test = (self._rows.where(member(F.col(_ID)) == F.lit(what)).drop(_ID) for what in (TRAIN, TEST))
        if any(feature_step(name, value).learns for name, value in steps):
            train = train.persist()
        try:
            fitted, after, vector = fit_steps(steps, train)
            both = after.withColumn(_PART, F.lit(TRAIN)).unionByName(
                apply_steps(fitted, test).withColumn(_PART, F.lit(TEST))
            )
            return self._crossed(open_frame(after), open_frame(both), estimator, vector, _PART)
        finally:
            train.unpersist()

    def _crossed(
        self, seen: Any, frame: Any, estimator: Any, vector: str | None, membership: str
    ) -> tuple[CrossedFold, Any]:
        selection = select_columns(estimator, seen, vector)
        blocks = load(frame, selection, [membership])
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
        self._rows.unpersist()


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


def prefix_keys(candidates: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Group candidates that agree in the named parameters.

    Parameters
    ----------
    candidates : sequence of dict
        Parameters of the candidates.
    names : sequence of str
        The parameters that matter.

    Returns
    -------
    groups : list of int
        The group of each candidate.
    firsts : list of int
        The first candidate of each group.

    Examples
    --------
    >>> prefix_keys([{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 2}], ["a"])
    ([0, 1, 0], [0, 1])
    """
    firsts: list[int] = []
    groups = []
    for number, params in enumerate(candidates):
        mine = {name: value for name, value in params.items() if name in names}
        for group, first in enumerate(firsts):
            other = {name: value for name, value in candidates[first].items() if name in names}
            if mine.keys() == other.keys() and all(_same(value, other[name]) for name, value in mine.items()):
                groups.append(group)
                break
        else:
            groups.append(len(firsts))
            firsts.append(number)
    return groups, firsts


def _same(left: Any, right: Any) -> bool:
    if left is right:
        return True
    try:
        return type(left) is type(right) and bool(left == right)
    except ValueError:  # arrays have no single answer
        return False
