"""How the rows of a search are opened and divided into folds, whatever kind they are of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.registry import open_frame
from raydp_ml.pipeline.pipeline import SparkRayPipeline
from raydp_ml.search.candidates import PrefixTable
from raydp_ml.search.folds.columns import COLUMN_PARAMS, label_names
from raydp_ml.search.folds.local import LocalFolds, column_of, without_columns
from raydp_ml.search.folds.splits import Splits, split_rows
from raydp_ml.search.run import SearchRows

__all__ = ["Division"]


@dataclass(frozen=True)
class Division:
    """How a search divides its rows.

    Parameters
    ----------
    estimator : estimator
        What is searched.
    cv : object
        The search's ``cv``.
    random_state : object
        What a random division goes by.
    candidates_name : str
        The parameter that holds the values to try, for messages.
    """

    estimator: Any
    cv: Any
    random_state: Any
    candidates_name: str

    @contextmanager
    def rows(
        self, X: Any, y: Any, groups: Any, given: dict[str, Any], candidates: list[dict[str, Any]]
    ) -> Iterator[SearchRows]:
        """The rows, divided, for the time that trials read them.

        Parameters
        ----------
        X, y, groups : object
            As ``fit`` of a search takes them; for a pipeline X is a Spark DataFrame.
        given : dict
            Weights of rows and further arguments of fits.
        candidates : list of dict
            Parameters of each candidate that is known.
        """
        frame = open_frame(X)
        if isinstance(self.estimator, SparkRayPipeline):
            with self._pipeline_rows(X, groups) as rows:
                yield rows
        elif frame is not None and frame.distributed:
            yield self._frame_rows(X, y, groups, candidates)
        else:
            yield self._local_rows(X, y, groups, given)

    def _local_rows(self, X: Any, y: Any, groups: Any, given: dict[str, Any]) -> SearchRows:
        """Rows of an array or of a frame in this process."""
        inside, labels = y is None, y
        if inside:
            label = self.estimator.get_params(deep=False).get("label_column")
            if label is None or open_frame(X) is None:
                raise InvalidValueError(
                    "y is not given: give the labels, or a frame and an estimator with label_column"
                )
            labels = column_of(X, label)
        group_values = column_of(X, groups) if isinstance(groups, str) else groups
        splits = self._splits(labels, group_values, partial(column_of, X))
        X = without_columns(X, self.extra_columns(groups))
        fit_params = {name: value for name, value in given.items() if name != "sample_weight"}
        folds = LocalFolds.put(X, None if inside else y, given["sample_weight"], fit_params, splits)
        return SearchRows(folds, splits, np.asarray(labels), self.estimator)

    def _frame_rows(self, X: Any, y: Any, groups: Any, candidates: list[dict[str, Any]]) -> SearchRows:
        """Rows of a Spark frame or Ray Dataset, which cross once."""
        from raydp_ml.search.folds.frame import FrameSource

        if y is not None:
            raise InvalidTypeError(f"y was given with a {type(X).__name__}; its label is a column: set label_column")
        for name in {name for params in candidates for name in params}:
            if name in COLUMN_PARAMS:
                raise InvalidValueError(
                    f"{self.candidates_name} holds {name!r}, which can be searched in a SparkRayPipeline only"
                )
        frame: Any = open_frame(X)
        source = FrameSource(self.estimator, frame, self.extra_columns(groups), as_codes=self._codes_do())
        splits = self._splits(source.columns["y"], source.columns.get(groups), source.columns.__getitem__)
        return SearchRows(source.folds(splits), splits, source.columns["y"], self.estimator)

    @contextmanager
    def _pipeline_rows(self, df: Any, groups: Any) -> Iterator[SearchRows]:
        """Rows of a Spark frame behind the steps of a pipeline, which are fitted when a trial asks for it."""
        from raydp_ml.search.broker import FoldService
        from raydp_ml.search.folds.pipeline import AskedFolds, PipelineSource

        pipeline = clone(self.estimator)
        final = pipeline.split_steps()[1]
        if final is None:
            raise InvalidTypeError(_no_estimator(pipeline))
        extra = self.extra_columns(groups)
        source = PipelineSource(df, label_names(pipeline.final_estimator), extra, as_codes=self._codes_do())
        try:
            splits = self._splits(source.columns["y"], source.columns.get(groups), source.columns.__getitem__)
            source.prepare(splits)
            prefixes = PrefixTable(pipeline, source)
            with FoldService(len(splits), source.make, source.release, source.cancel) as service:
                yield SearchRows(
                    AskedFolds(service.broker),
                    splits,
                    source.columns["y"],
                    final[1],
                    name=final[0],
                    prefix=prefixes.number,
                    expect=service.expect,
                    finished=service.finished,
                )
        finally:
            source.close()

    def extra_columns(self, groups: Any) -> list[str]:
        """Columns of X that say how to divide it, and are no features."""
        return list(dict.fromkeys(name for name in (self.cv, groups) if isinstance(name, str)))

    def _codes_do(self) -> bool:
        """Whether codes of labels and groups will do: for a splitter of the user's they may not."""
        own = hasattr(self.cv, "split") and not isinstance(self.cv, str)
        return not own or type(self.cv).__module__.startswith("sklearn.")

    def _splits(self, y: Any, groups: Any, column: Any) -> Splits:
        return split_rows(
            self.cv,
            np.asarray(y),
            groups,
            column,
            classifies=is_classifier(self.estimator),
            random_state=self.random_state,
        )


def _no_estimator(pipeline: SparkRayPipeline) -> str:
    if pipeline.final_estimator is None:
        return "the pipeline has no estimator as its last step, so there is nothing to score"
    return (
        f"the last step of the pipeline, a {type(pipeline.steps[-1][1]).__name__}, trains in Spark, and trials of a search have no "
        "Spark; end the pipeline in an estimator of raydp_ml or scikit-learn, or use pyspark.ml.tuning.CrossValidator"
    )
