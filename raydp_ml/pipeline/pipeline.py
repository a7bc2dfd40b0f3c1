"""SparkRayPipeline: Spark ML stages, SQL and functions, then an estimator, as one scikit-learn object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator
from sklearn.utils import Bunch, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

import raydp_ml
from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.directory import Savable
from raydp_ml.pipeline.diagram import diagram_of
from raydp_ml.pipeline.files import load_steps, pack_steps, save_steps, unpack_steps
from raydp_ml.pipeline.parameters import check_steps, params_of_steps, set_params_of_steps
from raydp_ml.pipeline.rows import predicted, rows_in_spark, schema_of, transformed
from raydp_ml.pipeline.spark_session import running_session
from raydp_ml.pipeline.steps import NamedStep, apply_steps, fit_final, fit_steps, is_final, step_of

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from raydp_ml.serving.local_pipeline import LocalPipeline

__all__ = ["SparkRayPipeline"]


def _final_has(method: str) -> Any:
    def check(pipeline: SparkRayPipeline) -> bool:
        final = pipeline.final_estimator
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
        the pipeline transforms only. Estimators and transformers of scikit-learn are refused.
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
        The last vector column that a step made; the estimator uses it alone when its ``feature_columns`` is None. A slice
        that leaves feature steps out has None.
    input_schema_ : pyspark.sql.types.StructType or None
        The columns of the training rows. A slice without the first step has None.

    See Also
    --------
    raydp_ml.GridSearch : Chooses parameters of any step.

    Notes
    -----
    ``fit``, ``predict`` and the others take a Spark or pandas-on-Spark DataFrame, a Ray Dataset, a pyarrow Table, a
    pandas frame, or the path of a parquet or CSV file.

    ``pipe["vec"]`` and ``pipe[0]`` are steps, ``pipe[:-1]`` is the pipeline without its last step, ``len(pipe)`` is the number
    of steps and iteration gives their names.

    Examples
    --------
    >>> from raydp_ml import SparkRayPipeline
    >>> pipe = SparkRayPipeline([("clean", "SELECT * FROM __THIS__ WHERE fare > 0")])
    >>> pipe.fit(trips).transform(trips).count()  # doctest: +SKIP
    9731
    >>> list(SparkRayPipeline([("clean", "SELECT * FROM __THIS__"), ("scale", "passthrough")])[:-1])
    ['clean']
    """

    def __init__(self, steps: Sequence[NamedStep], spark: Mapping[str, Any] | None = None) -> None:
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
        return {**params, **params_of_steps(check_steps(self.steps))}

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
        steps, spark = params.pop("steps", self.steps), params.pop("spark", self.spark)
        self.steps = set_params_of_steps(steps, params)
        self.spark = spark
        return self

    def __sklearn_clone__(self) -> SparkRayPipeline:
        spark = dict(self.spark) if isinstance(self.spark, Mapping) else self.spark
        return type(self)([(name, step_of(step).copy()) for name, step in check_steps(self.steps)], spark=spark)

    # ---- steps -----------------------------------------------------------------------------------------------------

    @property
    def named_steps(self) -> Bunch:
        """Steps by name; the fitted ones once there are any."""
        return Bunch(**dict(self._best_steps()))

    @property
    def final_estimator(self) -> Any:
        """The estimator: fitted if the pipeline is; None when the last step is none."""
        steps = self._best_steps()
        return steps[-1][1] if len(steps) and is_final(steps[-1][1]) else None

    def split_steps(self) -> tuple[list[NamedStep], NamedStep | None]:
        """The steps as given, after a check.

        Returns
        -------
        before : list of (name, step)
            Those in front of the estimator.
        final : (name, estimator) or None
            The estimator, if the last step is one.
        """
        steps = check_steps(self.steps)
        if not steps:
            raise InvalidValueError("steps is empty; give at least one (name, step)")
        return (steps[:-1], steps[-1]) if is_final(steps[-1][1]) else (steps, None)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[str]:
        """The names of the steps, in order."""
        return iter([name for name, _ in self.steps])

    def __getitem__(self, key: str | int | slice) -> Any:
        """A step by name or position, or a pipeline of some of the steps.

        Parameters
        ----------
        key : str, int or slice
            ``pipe["vec"]`` and ``pipe[0]`` are steps, fitted once the pipeline is. ``pipe[:-1]`` is a pipeline that has the same
            step objects, fitted as this one is.
        """
        if isinstance(key, slice):
            return self._part(key)
        if isinstance(key, str):
            return self.named_steps[key]
        return self._best_steps()[key][1]

    def _part(self, key: slice) -> SparkRayPipeline:
        if key.step not in (None, 1):
            raise InvalidValueError(
                f"a slice of a pipeline has consecutive steps: its step must be 1, got {key.step!r}"
            )
        part = type(self)(self.steps[key], spark=self.spark)
        if self.__sklearn_is_fitted__():
            # Which step made the vector column is not kept, so a part without all feature steps does not name it.
            features = len(self.steps) if self.final_estimator is None else len(self.steps) - 1
            positions = range(len(self.steps))[key]
            whole = positions.start == 0 and positions.stop >= features
            schema = self.input_schema_ if positions.start == 0 else None
            part._keep_fitted(self.steps_[key], self.vector_column_ if whole else None, schema)
        return part

    def _best_steps(self) -> Sequence[NamedStep]:
        """The fitted steps once there are any, otherwise those given."""
        return self.steps_ if self.__sklearn_is_fitted__() else self.steps

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
        before, final = self.split_steps()
        rows = self.spark_frame(X, y)
        fitted, frame, vector = fit_steps(before, rows)
        if final is not None:
            fitted = [*fitted, fit_final(final, frame, vector)]
        self._keep_fitted(fitted, vector, rows.schema)
        return self

    def _keep_fitted(self, steps: list[NamedStep], vector_column: str | None, schema: StructType | None) -> None:
        self.steps_ = steps
        self.vector_column_ = vector_column
        self.input_schema_ = schema

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
        return transformed(X, self.features, self._session)

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
        return self._predict(X, self.final_estimator.predict, self.final_estimator.prediction_column)

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
        return self._predict(X, self.final_estimator.predict_proba, self.final_estimator.probability_column)

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
        return self.final_estimator.score(self.features(self.spark_frame(X, y)))

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
        return self.final_estimator.evaluate(self.features(self.spark_frame(X, y)))

    @property
    def classes_(self) -> Any:
        """Class labels of a fitted classifier."""
        final = self.final_estimator
        if final is None:
            raise AttributeError("the last step is no estimator of raydp_ml, so the pipeline has no classes_")
        return final.classes_

    def features(self, df: DataFrame) -> DataFrame:
        """The rows as the estimator gets them: after all fitted steps but the estimator.

        Parameters
        ----------
        df : pyspark.sql.DataFrame
            Rows.

        Returns
        -------
        pyspark.sql.DataFrame
            Lazy.
        """
        check_is_fitted(self)
        return apply_steps(self.steps_ if self.final_estimator is None else self.steps_[:-1], df)

    def spark_frame(self, X: Any, y: Any = None) -> DataFrame:
        """The rows as a Spark DataFrame, in the session that the pipeline uses.

        Parameters
        ----------
        X : frame or path
            Rows; see Notes of the class.
        y : array-like, optional
            Labels, for a pandas frame without a label column.

        Returns
        -------
        pyspark.sql.DataFrame
            X itself when it is one.
        """
        return rows_in_spark(X, y, self.final_estimator, self._session)

    def to_local(self, functions: Mapping[str, Callable[[pa.Table], pa.Table]] | None = None) -> LocalPipeline:
        """This fitted pipeline without Spark: it predicts in this process, on numpy and Arrow.

        Parameters
        ----------
        functions : mapping of str to callable, optional
            For each step that is a function of Spark DataFrames the function that stands in for it. It takes a pyarrow.Table and
            returns one with the same rows and the columns that the step makes in Spark.

        Returns
        -------
        raydp_ml.LocalPipeline
            Has ``predict``, ``predict_proba``, ``transform`` and ``save``, and gives the same numbers.

        Raises
        ------
        InvalidTypeError
            When a step works in Spark only, such as SQL. The message names these steps and says why.

        Examples
        --------
        >>> pipe.to_local().predict([{"city": "Oslo", "age": 31.0}])  # doctest: +SKIP
        [1]
        """
        check_is_fitted(self)
        # The class stands in a room above this one, which the face of the package knows.
        local: type[LocalPipeline] = raydp_ml.LocalPipeline
        return local.from_pipeline(self, functions)

    @property
    def session_(self) -> SparkSession:
        """The Spark session that the pipeline uses; one is started when none runs and ``spark`` was given."""
        return self._session()

    def _predict(self, X: Any, predict: Callable[[DataFrame], DataFrame], column: str) -> Any:
        check_is_fitted(self)
        return predicted(X, lambda df: predict(self.features(df)), column, self._session)

    def _session(self) -> SparkSession:
        return running_session(self.spark)

    # ---- scikit-learn ----------------------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "steps_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        final = self.final_estimator
        if final is not None:
            own = get_tags(final)
            tags.estimator_type = own.estimator_type
            tags.classifier_tags = own.classifier_tags
            tags.regressor_tags = own.regressor_tags
            tags.target_tags = own.target_tags
        return tags

    def _sk_visual_block_(self) -> Any:
        return diagram_of(self.steps_ if self.__sklearn_is_fitted__() else check_steps(self.steps))

    # ---- pickle and persistence ------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        lists: dict[str, Any] = {key: state[key] for key in ("steps", "steps_") if key in state}
        state.update(pack_steps(lists))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.spark = state.get("spark")
        lists: dict[str, Any] = {key: state[key] for key in ("steps", "steps_") if key in state}
        super().__setstate__({**state, **unpack_steps(lists, self._session)})

    # The steps are no constructor arguments that JSON could hold: they are all state.
    has_state_unfitted = True

    def params_to_save(self) -> dict[str, Any]:
        """The parameters without the steps."""
        return {"steps": [], "spark": dict(self.spark) if self.spark is not None else None}

    def state_to_directory(self, path: str) -> dict[str, Any]:
        """Write the steps, each in the way of its kind."""
        fitted = self.steps_ if self.__sklearn_is_fitted__() else None
        state = save_steps(path, check_steps(self.steps), fitted)
        if fitted is not None:
            state["vector_column"] = self.vector_column_
            state["input_schema"] = None if self.input_schema_ is None else self.input_schema_.jsonValue()
        return state

    def state_from_directory(self, path: str, state: dict[str, Any], *, model: Any = None) -> None:
        """Take over the steps."""
        self.steps, fitted = load_steps(path, state, self._session)
        if fitted is not None:
            # Directories of the first versions have no schema.
            self._keep_fitted(fitted, state["vector_column"], schema_of(state.get("input_schema")))
