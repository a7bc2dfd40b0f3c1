"""LocalPipeline: a fitted pipeline in this process, without Spark, Java and Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.persistence.directory import Savable
from raydp_ml.serving.columns import LocalFrame, arrow_of
from raydp_ml.serving.files import read_steps, write_steps
from raydp_ml.serving.functions import CallFunction
from raydp_ml.serving.model import LocalFinal, Output, read_final
from raydp_ml.serving.rows import LocalRows, open_rows
from raydp_ml.serving.stage import LocalStage

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from raydp_ml.pipeline.pipeline import SparkRayPipeline

__all__ = ["LocalPipeline", "LocalSteps"]

LocalStep = tuple[str, LocalStage]
"""The name of a step and what it does; a step that is a pipeline itself is several of the same name."""


@dataclass(frozen=True)
class LocalSteps:
    """What a LocalPipeline does.

    Attributes
    ----------
    features : tuple of (name, LocalStage)
        The steps in front of the last.
    final : LocalFinal or None
        The last, if it predicts.
    schema : pyarrow.Schema
        The columns that the pipeline was fitted on.
    """

    features: tuple[LocalStep, ...] = ()
    final: LocalFinal | None = None
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))

    @cached_property
    def needed(self) -> tuple[LocalStep, ...]:
        """The feature steps that a prediction needs: they make what the last step reads, or skip rows."""
        wanted = set(() if self.final is None else self.final.inputs)
        kept = []
        everything = False
        for name, stage in reversed(self.features):
            everything = everything or isinstance(stage, CallFunction)
            if everything or stage.drops_rows or wanted.intersection(stage.outputs):
                kept.append((name, stage))
                wanted = wanted.difference(stage.outputs).union(stage.inputs)
        return tuple(reversed(kept))

    def reads(self, steps: tuple[LocalStep, ...], last: tuple[str, ...]) -> tuple[str, ...] | None:
        """The columns that some steps, and what comes last, read of the rows; None when a function may read any."""
        if any(isinstance(stage, CallFunction) for _, stage in steps):
            return None
        names: dict[str, None] = {}
        made: set[str] = set()
        for _, stage in steps:
            names.update(dict.fromkeys(name for name in stage.inputs if name not in made))
            made.update(stage.outputs)
        names.update(dict.fromkeys(name for name in last if name not in made))
        return tuple(names)


class LocalPipeline(Savable):
    """A fitted SparkRayPipeline that predicts in this process: on numpy and Arrow, with no Spark, Java or Ray.

    ``pipe.to_local()`` makes it, and ``raydp_ml.load`` reads one that was saved; both do not call this class.

    Parameters
    ----------
    model : object, optional
        The architecture of the estimator's model, for libraries that need it to read weights.
    steps : LocalSteps, optional
        What it does; nothing by default.

    Notes
    -----
    Rows are a pandas frame, a pyarrow Table or RecordBatch, or a list with a dict for each row. Columns that no step reads may be
    missing, the label for example.

    Examples
    --------
    >>> local = pipe.to_local()  # doctest: +SKIP
    >>> local.predict([{"city": "Oslo", "age": 31.0}])  # doctest: +SKIP
    [1]
    """

    def __init__(self, model: Any = None, steps: LocalSteps | None = None) -> None:
        self.model = model
        self.steps = steps if steps is not None else LocalSteps()

    @classmethod
    def from_pipeline(
        cls, pipeline: SparkRayPipeline, functions: Mapping[str, Callable[[pa.Table], pa.Table]] | None = None
    ) -> LocalPipeline:
        """The local form of a fitted pipeline.

        Parameters
        ----------
        pipeline : SparkRayPipeline
            A fitted one; its session is used to read what the stages learnt.
        functions : mapping of str to callable, optional
            For each step that is a function the one that stands in for it, from pyarrow.Table to pyarrow.Table.

        Returns
        -------
        LocalPipeline
            Knows nothing of Spark.

        Raises
        ------
        InvalidTypeError
            When a step works in Spark only; the message names all such steps and says why.
        """
        from raydp_ml.serving.conversion import local_steps

        steps, model = local_steps(pipeline, functions or {})
        return cls(model, steps)

    # ---- use -------------------------------------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that a prediction, or without a last step a transformation, reads, in the order of the training rows."""
        steps = self.steps
        names = (
            steps.reads(steps.features, ()) if steps.final is None else steps.reads(steps.needed, steps.final.inputs)
        )
        return tuple(steps.schema.names if names is None else (name for name in steps.schema.names if name in names))

    @property
    def classes_(self) -> np.ndarray:
        """The labels of a fitted classifier, in the order of ``predict_proba``."""
        classes = None if self.steps.final is None else self.steps.final.classes
        if classes is None:
            raise AttributeError("the pipeline is no classifier, so it has no classes_")
        return classes

    def predict(self, X: Any) -> Any:
        """Predict labels or values.

        Parameters
        ----------
        X : pandas frame, pyarrow Table or RecordBatch, or list of dict
            Rows.

        Returns
        -------
        numpy.ndarray, pyarrow Table or RecordBatch, or list
            For pandas an array; for Arrow what was given with the column of predictions at its end; for dicts a list of Python's
            own values.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            For rows on which Spark's stages fail, too, and columns that are missing or of a wrong type.
        """
        return self._predict(X, "prediction")

    def predict_proba(self, X: Any) -> Any:
        """Predict the probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : pandas frame, pyarrow Table or RecordBatch, or list of dict
            Rows.

        Returns
        -------
        numpy.ndarray, pyarrow Table or RecordBatch, or list
            As for :meth:`predict`, with a list of numbers for each row.
        """
        return self._predict(X, "probability")

    def transform(self, X: Any) -> Any:
        """The rows after all steps but the last.

        Parameters
        ----------
        X : pandas frame, pyarrow Table or RecordBatch, or list of dict
            Rows.

        Returns
        -------
        pandas frame, pyarrow Table or RecordBatch, or list of dict
            What was given, with the columns of the steps. Vectors are lists of numbers; those of sparse columns are structs of
            ``type`` (0), ``size``, ``indices`` and ``values``, as Spark writes them.
        """
        steps, rows = self.steps, open_rows(X)
        table = rows.table(steps.reads(steps.features, ()), steps.schema)
        frame = _apply(steps.features, LocalFrame.from_arrow(table))
        outputs = {output for _, stage in steps.features for output in stage.outputs}
        made = {name: arrow_of(column) for name, column in frame.columns.items() if name in outputs}
        dropped = set(table.column_names).difference(frame.columns)
        names = [name for name in rows.names if name not in dropped]
        return rows.with_columns([*names, *(name for name in made if name not in names)], made, frame.positions)

    def predictions(self, X: Any, output: Output = "prediction") -> pa.Array:
        """Predictions as an Arrow array, null for rows that are skipped.

        Parameters
        ----------
        X : pandas frame, pyarrow Table or RecordBatch, or list of dict
            Rows.
        output : {"prediction", "probability"}
            What to predict.

        Returns
        -------
        pyarrow.Array
            One for each row.
        """
        rows, final = open_rows(X), self.final_with(output)
        positions, predicted = self._predicted(rows, final, output)
        if len(predicted) == len(X):
            return predicted
        places = np.full(len(X), -1)
        places[positions] = np.arange(len(predicted))
        return predicted.take(pa.array(places, mask=places < 0))

    def register(self, session: SparkSession, name: str, output: Output = "prediction") -> tuple[str, ...]:
        """Make this pipeline a function of Spark's SQL: ``SELECT late(origin, hour) FROM flights``.

        Parameters
        ----------
        session : pyspark.sql.SparkSession
            Where the function is known.
        name : str
            Its name.
        output : {"prediction", "probability"}
            What it gives; null for rows that a step skips.

        Returns
        -------
        tuple of str
            The columns that are its arguments, in their order: those of :attr:`inputs`.
        """
        from raydp_ml.serving.sql import register

        return register(self, session, name, output)

    def final_with(self, output: str) -> LocalFinal:
        """The last step, which must have this output.

        Raises
        ------
        InvalidTypeError
            When the pipeline gives no such predictions.
        """
        final = self.steps.final
        if final is None or output not in final.columns:
            what = "the last step is no estimator" if final is None else "the estimator is no classifier"
            raise InvalidTypeError(f"this pipeline has no {output}: {what}")
        return final

    def _predict(self, X: Any, output: Output) -> Any:
        rows, final = open_rows(X), self.final_with(output)
        positions, predicted = self._predicted(rows, final, output)
        return rows.with_predictions(predicted, positions, final.columns[output])

    def _predicted(self, rows: LocalRows, final: LocalFinal, output: Output) -> tuple[np.ndarray, pa.Array]:
        """Predictions, and the numbers of the rows that they are for."""
        steps = self.steps
        table = rows.table(steps.reads(steps.needed, final.inputs), steps.schema)
        frame, predicted = final.predict(_apply(steps.needed, LocalFrame.from_arrow(table)), output)
        return frame.positions, predicted

    def __repr__(self) -> str:
        names = list(dict.fromkeys(name for name, _ in self.steps.features))
        last = "" if self.steps.final is None else f", final={type(self.steps.final).__name__}"
        return f"LocalPipeline(steps={names}{last})"

    # ---- persistence -----------------------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def params_to_save(self) -> dict[str, Any]:
        """The architecture of the model; everything else is state."""
        return {"model": self.model}

    def take_given(self, params: Mapping[str, Any]) -> None:
        """Functions that the caller of ``load`` gave are in their steps already; other names are an error."""
        functions = [name for name, stage in self.steps.features if isinstance(stage, CallFunction)]
        unknown = [name for name in params if name not in functions]
        if unknown:
            raise InvalidValueError(
                f"params names {', '.join(map(repr, unknown))}, but what can be given to a LocalPipeline are the functions of its "
                f"steps ({', '.join(functions) or 'it has none'})"
            )

    def state_to_directory(self, path: str) -> dict[str, Any]:
        """Write the steps and the weights."""
        folder, steps = Path(path), self.steps
        write_steps(folder, steps.features)
        final = None if steps.final is None else {"kind": steps.final.kind, "notes": steps.final.write(folder)}
        return {"final": final, "schema": steps.schema.serialize().to_pybytes()}

    def state_from_directory(self, path: str, state: dict[str, Any], *, model: Any = None) -> None:
        """Take over the steps and the weights."""
        folder, final = Path(path), state["final"]
        given = model if model is not None else self.model
        self.steps = LocalSteps(
            read_steps(folder),
            None if final is None else read_final(folder, final["kind"], final["notes"], given),
            pa.ipc.read_schema(pa.py_buffer(state["schema"])),
        )


def _apply(steps: tuple[LocalStep, ...], frame: LocalFrame) -> LocalFrame:
    for name, stage in steps:
        try:
            frame = stage.transform(frame)
        except (InvalidValueError, InvalidTypeError) as error:
            raise type(error)(f"step {name!r}: {error}") from error
    return frame
