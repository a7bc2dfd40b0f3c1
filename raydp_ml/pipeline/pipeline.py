"""SparkRayPipeline: Spark ML stages, SQL and functions, then an estimator, as one scikit-learn object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

import raydp_ml
from raydp_ml import progress
from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.directory import Savable
from raydp_ml.pipeline.composition import Steps
from raydp_ml.pipeline.feature_names import feature_names
from raydp_ml.pipeline.files import load_steps, pack_steps, save_steps, unpack_steps
from raydp_ml.pipeline.fitting import given_weights, goes_on, read_once, split_rows
from raydp_ml.pipeline.parameters import check_steps
from raydp_ml.pipeline.rows import WEIGHT, predicted, rows_in_spark, schema_of, transformed
from raydp_ml.pipeline.spark_session import running_session, session_runs
from raydp_ml.pipeline.steps import Beside, NamedStep, apply_steps, final_of, fit_final, fit_steps, reads_of

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["SparkRayPipeline"]


def _final_has(method: str) -> Any:
    def check(pipeline: SparkRayPipeline) -> bool:
        final = pipeline.final_estimator
        if final is None:
            raise AttributeError(f"the last step predicts nothing, so the pipeline has no {method}")
        getattr(final, method)  # its AttributeError says more than False would
        return True

    return check


class SparkRayPipeline(Savable, Steps):
    """Feature steps that run in Spark, followed by an estimator that trains with Ray.

    Parameters
    ----------
    steps : list of (name, step)
        Each step is a ``pyspark.ml`` Transformer or Estimator, a function from DataFrame to DataFrame, a SQL string over
        ``__THIS__`` (the frame so far), or ``"passthrough"``. The last may be an estimator of raydp_ml, a predictor of Spark ML, or
        a classifier or regressor of scikit-learn; without one the pipeline transforms only.
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
    pandas frame, or the path of files: parquet, CSV, JSON lines or ORC, or a Delta table when its package is there.
    A path may be a directory, also one with partition columns, or a pattern such as ``month=1*/*.parquet``; the files of a list
    of paths are read together.

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

    # ---- fit and use -----------------------------------------------------------------------------------------------

    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, resume: bool = False, **routed: Any
    ) -> SparkRayPipeline:
        """Fit the steps in order, then the estimator on what they make.

        Parameters
        ----------
        X : frame or path
            Training rows; see Notes of the class.
        y : array-like, optional
            Labels, for a pandas frame without a label column.
        sample_weight : array-like, optional
            Weights of the rows of a pandas frame, for the last step; for other frames the last step names a column.
        resume : bool, default=False
            Whether the estimator goes on from the last checkpoint that an interrupted fit, of this process or of another one, has
            left in its ``storage_path``; from the start where there is none. The feature steps are fitted again.
        **routed : array-like
            ``NAME__sample_weight`` with the name of the last step, as scikit-learn's pipelines take it.

        Returns
        -------
        SparkRayPipeline
            This object. The steps that were given stay unfitted; ``steps_`` has the fitted ones.

        Notes
        -----
        With ``warm_start=True`` of the estimator a second fit trains on. It keeps the feature steps as they are fitted, because the
        estimator goes on with what they make; feature steps that were changed in between are an error then.
        """
        before, final = self._checked_steps(), None
        last = final_of(before[-1][1])
        if last is not None:
            final = before.pop()
        if resume and last is None:
            raise InvalidValueError("resume=True goes on with training, and this pipeline has no estimator")
        if resume and last is not None:
            last.check_resume()  # before the feature steps are fitted
        with progress.call(type(self).__name__, last is None or last.verbose):
            return self._fit(before, final, X, y, sample_weight, routed, resume)

    def _fit(
        self,
        before: list[NamedStep],
        final: NamedStep | None,
        X: Any,
        y: Any,
        sample_weight: Any,
        routed: Mapping[str, Any],
        resume: bool,
    ) -> SparkRayPipeline:
        weights = given_weights(sample_weight, routed, final)
        rows = rows_in_spark(X, y, self.final_estimator, self._session, weights)
        weight_column = None if weights is None else WEIGHT
        if final is not None and self.__sklearn_is_fitted__() and goes_on(final, self._fitted_from, before):
            beside = Beside(weight_column, self.steps_[-1][1], resume=resume)
            last = fit_final(final, self.features(rows), self.vector_column_, beside)
            self._keep_fitted([*self.steps_[:-1], last], self.vector_column_, self.input_schema_)
            return self
        with read_once(rows, reads_of(before, final)) as source:
            train, held_out = split_rows(source, before, final, self._session)
            fitted, frame, vector = fit_steps(before, train)
            if final is not None:
                held_out = None if held_out is None else apply_steps(fitted, held_out)
                beside = Beside(weight_column, held_out=held_out, resume=resume)
                fitted = [*fitted, fit_final(final, frame, vector, beside)]
        self._keep_fitted(fitted, vector, rows.drop(WEIGHT).schema)
        return self

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None, **routed: Any) -> Any:
        """Fit, and give the training rows as the feature steps leave them.

        Parameters
        ----------
        X, y, sample_weight, **routed
            As for :meth:`fit`.

        Returns
        -------
        frame
            As for :meth:`transform`.
        """
        return self.fit(X, y, sample_weight, **routed).transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the numbers that the estimator gets; without an estimator, of the columns that :meth:`transform` gives.

        Parameters
        ----------
        input_features : object, optional
            Ignored: the fitted pipeline knows its columns.

        Returns
        -------
        numpy.ndarray of str
            The elements of a vector have the names that Spark ML keeps in its metadata, ``city_hot_Oslo`` for example; where it
            keeps none they are ``vector_0``, ``vector_1`` and so on.
        """
        check_is_fitted(self)
        if self.input_schema_ is None:
            raise InvalidValueError("a slice without the first step does not know the columns that it begins with")
        frame = self.features(self.session_.createDataFrame([], self.input_schema_))
        final = final_of(self.steps_[-1][1])
        if final is None:
            return np.array(frame.columns, dtype=object)
        return np.array(feature_names(frame.schema, final.features()), dtype=object)

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
            raise AttributeError("the last step predicts nothing, so the pipeline has no classes_")
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

    def to_local(self, functions: Mapping[str, Callable[[pa.Table], pa.Table]] | None = None) -> Any:
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
        return raydp_ml.LocalPipeline.from_pipeline(self, functions)

    def register(
        self,
        name: str,
        output: Literal["prediction", "probability"] = "prediction",
        functions: Mapping[str, Callable[[pa.Table], pa.Table]] | None = None,
    ) -> tuple[str, ...]:
        """Make this fitted pipeline a function of SQL in its session: ``SELECT late(origin, hour) FROM flights``.

        Parameters
        ----------
        name : str
            Name of the function.
        output : {"prediction", "probability"}
            What the function gives; null for rows that a step skips.
        functions : mapping of str to callable, optional
            As for :meth:`to_local`, which must be able to do the steps.

        Returns
        -------
        tuple of str
            The columns that are the arguments of the function: those that a prediction needs, in the order of the training rows.
        """
        arguments: tuple[str, ...] = self.to_local(functions).register(self.session_, name, output)
        return arguments

    def stop_spark(self) -> None:
        """End the Spark session that was started for this process, as :func:`raydp_ml.stop_spark` does."""
        from raydp_ml.session import stop_spark

        stop_spark()

    def __enter__(self) -> SparkRayPipeline:
        """Within ``with pipe:`` the session that the pipeline starts runs, and it ends with it; one that ran before stays."""
        self._found_session = session_runs()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.__dict__.pop("_found_session"):
            self.stop_spark()

    @property
    def session_(self) -> SparkSession:
        """The Spark session that the pipeline uses; one is started when none runs and ``spark`` was given."""
        return self._session()

    def _predict(self, X: Any, predict: Callable[[DataFrame], DataFrame], column: str) -> Any:
        check_is_fitted(self)
        return predicted(X, lambda df: predict(self.features(df)), column, self._session)

    def _session(self) -> SparkSession:
        return running_session(self.spark)

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
