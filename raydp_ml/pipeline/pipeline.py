"""SparkRayPipeline: Spark ML stages, SQL and functions, then an estimator, as one scikit-learn object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Bunch, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from raydp_ml.errors import InvalidTypeError, InvalidValueError, SessionStoppedError
from raydp_ml.frames.conversion import ROW, collect, frame_kind, give_back, to_spark_frame
from raydp_ml.persistence.directory import Savable
from raydp_ml.pipeline.stages import (
    apply_step,
    copy_step,
    describe_step,
    fit_step,
    kind_of,
    new_vector_column,
    set_stage_params,
    stage_params,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["SparkRayPipeline", "apply_stages", "fit_stages"]

Step = tuple[str, Any]


def fit_stages(steps: Sequence[Step], df: DataFrame) -> tuple[list[Step], DataFrame, str | None]:
    """Fit the steps before the estimator in order.

    Parameters
    ----------
    steps : sequence of (name, step)
        Steps of which none is an estimator of ours.
    df : pyspark.sql.DataFrame
        Training rows.

    Returns
    -------
    fitted : list of (name, step)
        New objects; those given are left as they are.
    frame : pyspark.sql.DataFrame
        The rows after all steps, lazy.
    vector_column : str or None
        The last vector column that a step made.
    """
    fitted: list[Step] = []
    vector = None
    for name, step in steps:
        done = fit_step(step, df)
        after = apply_step(name, done, df)
        vector = new_vector_column(done, df, after) or vector
        fitted.append((name, done))
        df = after
    return fitted, df, vector


def apply_stages(fitted: Sequence[Step], df: DataFrame) -> DataFrame:
    """The frame after steps that :func:`fit_stages` fitted."""
    for name, step in fitted:
        df = apply_step(name, step, df)
    return df


def _final_has(method: str) -> Any:
    def check(pipeline: SparkRayPipeline) -> bool:
        final = pipeline._final()
        if final is None:
            raise AttributeError(f"the last step is no estimator of raydp_ml, so the pipeline has no {method}")
        getattr(final, method)  # its AttributeError says more than False would
        return True

    return check


class SparkRayPipeline(Savable, BaseEstimator):
    """Feature steps that run in Spark, followed by an estimator that trains with Ray.

    Parameters
    ----------
    steps : list of (name, step)
        Each step is a ``pyspark.ml`` Transformer or Estimator, a function from DataFrame to DataFrame, a SQL string over
        ``__THIS__`` (the frame so far), or ``"passthrough"``. The last may be an estimator of raydp_ml; without one
        the pipeline transforms only.
    spark : dict, optional
        Arguments of :func:`raydp_ml.init_spark`, used when a session is needed and none runs. It goes on running
        until ``stop_spark()``.

    Attributes
    ----------
    steps_ : list of (name, step)
        The fitted steps.
    named_steps : Bunch
        Steps by name; the fitted ones once there are any.
    vector_column_ : str or None
        The last vector column that a step made; the estimator uses it alone when its ``feature_columns`` is None.

    See Also
    --------
    raydp_ml.GridSearch : Chooses parameters of any step.

    Notes
    -----
    ``fit``, ``predict`` and the others take a Spark or pandas-on-Spark DataFrame, a Ray Dataset, a pyarrow Table, a
    pandas frame, or the path of a parquet or CSV file.

    Examples
    --------
    >>> from raydp_ml import SparkRayPipeline
    >>> pipe = SparkRayPipeline([("clean", "SELECT * FROM __THIS__ WHERE fare > 0")])
    >>> pipe.fit(trips).transform(trips).count()  # doctest: +SKIP
    9731
    """

    def __init__(self, steps: Sequence[Step], spark: Mapping[str, Any] | None = None) -> None:
        self.steps = steps
        self.spark = spark

    # ---- parameters ------------------------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of the pipeline and, when deep, the steps and theirs as ``name__parameter``.

        Parameters
        ----------
        deep : bool, default=True
            Whether to go into the steps.

        Returns
        -------
        dict
            Values by name; None for a Spark ML Param without a value.
        """
        params: dict[str, Any] = {"steps": self.steps, "spark": self.spark}
        if not deep:
            return params
        for name, step in self._checked_steps():
            params[name] = step
            kind = kind_of(step)
            if kind == "spark":
                inner = stage_params(step)
            elif kind == "estimator":
                inner = step.get_params(deep=True)
            else:
                continue
            params.update({f"{name}__{key}": value for key, value in inner.items()})
        return params

    def set_params(self, **params: Any) -> SparkRayPipeline:
        """Set parameters of the pipeline, whole steps, or parameters of steps (``vec__outputCol``, ``model__lr``).

        Parameters
        ----------
        **params : object
            Values by name.

        Returns
        -------
        SparkRayPipeline
            This object.
        """
        steps = list(params.pop("steps", self.steps))
        spark = params.pop("spark", self.spark)
        names = [name for name, _ in _check_names(steps)]
        inner: dict[str, dict[str, Any]] = {}
        for key, value in params.items():
            name, nested, rest = key.partition("__")
            if name not in names:
                raise InvalidValueError(
                    f"{key!r} is not a parameter of this pipeline; it has 'steps', 'spark' and the steps "
                    f"{', '.join(map(repr, names))}, with their parameters as 'step__parameter'"
                )
            if nested:
                inner.setdefault(name, {})[rest] = value
            else:
                kind_of(value)
                steps[names.index(name)] = (name, value)
        for name, values in inner.items():
            step = steps[names.index(name)][1]
            kind = kind_of(step)
            if kind == "spark":
                set_stage_params(name, step, values)
            elif kind == "estimator":
                step.set_params(**values)
            else:
                raise InvalidValueError(
                    f"step {name!r} is a {kind} step and has no parameters, so {name}__{next(iter(values))} cannot be "
                    f"set; replace the step with set_params({name}=...)"
                )
        self.steps = steps
        self.spark = spark
        return self

    def __sklearn_clone__(self) -> SparkRayPipeline:
        spark = dict(self.spark) if isinstance(self.spark, Mapping) else self.spark
        return type(self)([(name, copy_step(step)) for name, step in self._checked_steps()], spark=spark)

    # ---- steps -----------------------------------------------------------------------------------------------------

    @property
    def named_steps(self) -> Bunch:
        """Steps by name; the fitted ones once there are any."""
        return Bunch(**dict(self.steps_ if hasattr(self, "steps_") else self.steps))

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, int):
            return (self.steps_ if hasattr(self, "steps_") else self.steps)[key][1]
        return self.named_steps[key]

    def _checked_steps(self) -> list[Step]:
        """The steps, after a check of their names, kinds and order."""
        steps = _check_names(self.steps)
        for position, (name, step) in enumerate(steps):
            if kind_of(step) == "estimator" and position < len(steps) - 1:
                raise InvalidTypeError(
                    f"step {name!r}, a {type(step).__name__}, is an estimator and must be the last step; it is followed "
                    f"by {steps[position + 1][0]!r}"
                )
        return steps

    def _split(self) -> tuple[list[Step], Step | None]:
        """Steps before the estimator, and the estimator's if there is one."""
        steps = self._checked_steps()
        if not steps:
            raise InvalidValueError("steps is empty; give at least one (name, step)")
        return (steps[:-1], steps[-1]) if kind_of(steps[-1][1]) == "estimator" else (steps, None)

    def _final(self) -> Any:
        """The estimator: fitted if the pipeline is; None when the last step is none."""
        steps = self.steps_ if hasattr(self, "steps_") else self.steps
        return steps[-1][1] if len(steps) and kind_of(steps[-1][1]) == "estimator" else None

    # ---- fit and use -----------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> SparkRayPipeline:
        """Fit the steps in order, then the estimator on what they make.

        Parameters
        ----------
        X : frame or path
            Training rows; see Notes of the class.
        y : array-like, optional
            Labels, for a pandas frame without a label column.

        Returns
        -------
        SparkRayPipeline
            This object. The steps that were given stay unfitted; ``steps_`` has the fitted ones.
        """
        before, final = self._split()
        fitted, frame, vector = fit_stages(before, self._frame(X, y))
        self._finish_fit(fitted, vector, final, frame)
        return self

    def _finish_fit(self, fitted: list[Step], vector: str | None, final: Step | None, frame: DataFrame) -> None:
        if final is not None:
            name, step = final
            estimator = clone(step)
            fitted = [*fitted, (name, estimator.fit_features(frame, vector_column=vector))]
        self.steps_ = fitted
        self.vector_column_ = vector

    def transform(self, X: Any) -> Any:
        """The rows after all steps but the estimator.

        Parameters
        ----------
        X : frame or path
            Rows.

        Returns
        -------
        frame
            Of the kind that was given; a lazy Spark DataFrame for Spark DataFrames and paths.
        """
        check_is_fitted(self)
        result = self._features(self._frame(X))
        return result.toPandas() if frame_kind(X) == "pandas" else give_back(result, X)

    @available_if(_final_has("predict"))
    def predict(self, X: Any) -> Any:
        """Predict with the fitted steps.

        Parameters
        ----------
        X : frame or path
            Rows.

        Returns
        -------
        frame or ndarray
            Frames come back with the prediction column added (lazily, for Spark); for pandas an array in the order of
            its rows, as in scikit-learn.
        """
        return self._predict(X, "predict", "prediction_column")

    @available_if(_final_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Predict class probabilities with the fitted steps.

        Parameters
        ----------
        X : frame or path
            Rows.

        Returns
        -------
        frame or ndarray
            As for :meth:`predict`, with an array column in the order of ``classes_``.
        """
        return self._predict(X, "predict_proba", "probability_column")

    @available_if(_final_has("score"))
    def score(self, X: Any, y: Any = None) -> float:
        """Score of the estimator: accuracy of a classifier, R² of a regressor.

        Parameters
        ----------
        X : frame or path
            Rows with labels.
        y : array-like, optional
            Labels, for a pandas frame without a label column.

        Returns
        -------
        float
            The score.
        """
        check_is_fitted(self)
        return self._final().score(self._features(self._frame(X, y)))

    @available_if(_final_has("evaluate"))
    def evaluate(self, X: Any, y: Any = None) -> dict[str, float]:
        """The estimator's loss and metrics.

        Parameters
        ----------
        X : frame or path
            Rows with labels.
        y : array-like, optional
            Labels, for a pandas frame without a label column.

        Returns
        -------
        dict
            Values by metric.
        """
        check_is_fitted(self)
        return self._final().evaluate(self._features(self._frame(X, y)))

    @property
    def classes_(self) -> Any:
        """Class labels of a fitted classifier."""
        final = self._final()
        if final is None:
            raise AttributeError("the last step is no estimator of raydp_ml, so the pipeline has no classes_")
        return final.classes_

    def _features(self, df: DataFrame) -> DataFrame:
        before = self.steps_ if self._final() is None else self.steps_[:-1]
        return apply_stages(before, df)

    def _predict(self, X: Any, method: str, column_param: str) -> Any:
        check_is_fitted(self)
        final = self._final()
        if frame_kind(X) != "pandas":
            return give_back(getattr(final, method)(self._features(self._frame(X))), X)
        features = self._features(to_spark_frame(X, self._session, number_rows=True))
        if ROW not in features.columns:
            raise InvalidValueError(
                f"{method} on a pandas frame gives an array in the order of its rows, but a step drops the columns that it "
                f"does not name and with them {ROW!r}, which numbers the rows; keep all columns (SELECT *), or give a "
                "Spark DataFrame"
            )
        column = getattr(final, column_param)
        table = collect(getattr(final, method)(features).select(ROW, column)).sort_by(ROW)
        if not np.array_equal(table[ROW].to_numpy(), np.arange(len(X))):
            raise InvalidValueError(
                f"the steps made {table.num_rows} rows of {len(X)} (rows dropped or repeated), so {method} cannot give an "
                "array in the order of the rows; give a Spark DataFrame"
            )
        values = table[column]
        if method == "predict_proba":
            return np.stack([np.asarray(row, dtype=float) for row in values.to_pylist()])
        return np.asarray(values.to_pylist())

    def _frame(self, X: Any, y: Any = None) -> DataFrame:
        if y is not None:
            label = getattr(self._final(), "label_column", None)
            if frame_kind(X) != "pandas":
                raise InvalidTypeError(
                    f"y goes with pandas frames; for {type(X).__name__} the label is a column: set label_column"
                )
            X = X.assign(**{label if isinstance(label, str) else "label": y})
        return to_spark_frame(X, self._session)

    def _session(self) -> SparkSession:
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        active = SparkSession.getActiveSession()
        if active is not None:
            return active
        if SparkContext._active_spark_context is not None:
            return SparkSession.builder.getOrCreate()
        if self.spark is not None:
            if not isinstance(self.spark, Mapping):
                raise InvalidTypeError(f"spark must be a dict of init_spark's arguments, got {self.spark!r}")
            from raydp_ml.session import init_spark

            return init_spark(**self.spark)
        raise SessionStoppedError(
            "there is no Spark session: call raydp_ml.init_spark(...) first, or give the pipeline its arguments as "
            "spark=dict(num_executors=2, ...)"
        )

    # ---- scikit-learn ----------------------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "steps_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        final = self._final()
        if final is not None and hasattr(final, "__sklearn_tags__"):
            own = get_tags(final)
            tags.estimator_type = own.estimator_type
            tags.classifier_tags = own.classifier_tags
            tags.regressor_tags = own.regressor_tags
            tags.target_tags = own.target_tags
        return tags

    def _sk_visual_block_(self) -> Any:
        try:
            from sklearn.utils._repr_html.estimator import _VisualBlock
        except ImportError:  # scikit-learn before 1.8
            from sklearn.utils._estimator_html_repr import _VisualBlock

        blocks, titles, details = [], [], []
        for name, step in self.steps_ if hasattr(self, "steps_") else self._checked_steps():
            title, detail = describe_step(step)
            titles.append(f"{name}: {title}")
            drawn = kind_of(step) == "estimator"  # scikit-learn draws it, with its parameters
            blocks.append(step if drawn else _VisualBlock("single", step, names=titles[-1], name_details=detail))
            details.append(detail)
        return _VisualBlock("serial", blocks, names=titles, name_details=details, dash_wrapped=False)

    # ---- pickle and persistence ------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        from raydp_ml.pipeline.files import pack_steps

        state = dict(super().__getstate__())
        lists = {key: state[key] for key in ("steps", "steps_") if key in state}
        state.update(pack_steps(lists))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        from raydp_ml.pipeline.files import needs_spark, unpack_steps

        lists: dict[str, Any] = {key: state[key] for key in ("steps", "steps_") if key in state}
        self.spark = state.get("spark")
        if needs_spark(lists):
            try:
                self._session()
            except SessionStoppedError as error:
                raise SessionStoppedError(
                    "this pipeline has Spark ML stages, which live in Spark's JVM, and there is no Spark session: call "
                    "raydp_ml.init_spark(...) before you unpickle it"
                ) from error
        super().__setstate__({**state, **unpack_steps(lists)})

    # The steps are no constructor arguments that JSON could hold: they are all state.
    _has_state_unfitted = True

    def _saved_params(self) -> dict[str, Any]:
        return {"steps": [], "spark": dict(self.spark) if self.spark is not None else None}

    def _state_to_dir(self, path: str) -> dict[str, Any]:
        from raydp_ml.pipeline.files import save_steps

        fitted = self.steps_ if hasattr(self, "steps_") else None
        state = save_steps(path, self._checked_steps(), fitted)
        if fitted is not None:
            state["vector_column"] = self.vector_column_
        return state

    def _state_from_dir(self, path: str, state: dict[str, Any], *, model: Any = None) -> None:
        from raydp_ml.pipeline.files import load_steps

        self.steps, fitted = load_steps(path, state, self._session)
        if fitted is not None:
            self.steps_ = fitted
            self.vector_column_ = state["vector_column"]


def _check_names(steps: Any) -> list[Step]:
    if isinstance(steps, str | Mapping) or not isinstance(steps, Sequence):
        raise InvalidTypeError(f"steps must be a list of (name, step), got {steps!r}")
    names: list[str] = []
    for item in steps:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InvalidTypeError(f"each of the steps must be a pair (name, step), got {item!r}")
        name = item[0]
        if not isinstance(name, str) or not name:
            raise InvalidTypeError(f"the name of a step must be a string, got {name!r}")
        if "__" in name:
            raise InvalidValueError(f"the step name {name!r} holds '__', which separates a step from its parameters")
        if name in ("steps", "spark"):
            raise InvalidValueError(f"the step name {name!r} is a parameter of the pipeline; choose another")
        if name in names:
            raise InvalidValueError(f"two steps are named {name!r}; names must be unique")
        names.append(name)
    return [(name, step) for name, step in steps]
