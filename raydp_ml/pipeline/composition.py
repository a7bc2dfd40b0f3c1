"""The steps of a pipeline as scikit-learn sees them: by name, by position, as slices, with their parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from sklearn.base import BaseEstimator
from sklearn.utils import Bunch, get_tags

from raydp_ml.errors import InvalidValueError
from raydp_ml.pipeline.diagram import diagram_of
from raydp_ml.pipeline.parameters import check_steps, params_of_steps, set_params_of_steps
from raydp_ml.pipeline.steps import FinalStep, NamedStep, described, final_of, step_of

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

__all__ = ["Steps"]


class Steps(BaseEstimator):
    """Named steps, given and fitted: what a pipeline has, without what it does.

    Parameters
    ----------
    steps : list of (name, step)
        As SparkRayPipeline takes them.
    spark : dict, optional
        Arguments of :func:`raydp_ml.init_spark`.
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

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the pipeline, whole steps, or parameters of steps (``vec__outputCol``, ``model__lr``).

        Parameters
        ----------
        **params : object
            Values by name.

        Returns
        -------
        Self
            This object.
        """
        steps, spark = params.pop("steps", self.steps), params.pop("spark", self.spark)
        self.steps = set_params_of_steps(steps, params)
        self.spark = spark
        return self

    def __sklearn_clone__(self) -> Self:
        spark = dict(self.spark) if isinstance(self.spark, Mapping) else self.spark
        return type(self)([(name, step_of(step).copy()) for name, step in check_steps(self.steps)], spark=spark)

    # ---- steps -----------------------------------------------------------------------------------------------------

    @property
    def named_steps(self) -> Bunch:
        """Steps by name; the fitted ones once there are any."""
        return Bunch(**dict(self._best_steps()))

    @property
    def final_estimator(self) -> Any:
        """The last step as an estimator: fitted if the pipeline is; None when it does not predict."""
        steps = self._best_steps()
        final = final_of(steps[-1][1]) if len(steps) else None
        return None if final is None else final.estimator()

    def split_steps(self) -> tuple[list[NamedStep], NamedStep | None]:
        """The steps as given, after a check, for a search that trains the last of them in its trials.

        Returns
        -------
        before : list of (name, step)
            Those in front of the estimator.
        final : (name, estimator) or None
            The estimator, if the last step is one of raydp_ml.
        """
        steps = self._checked_steps()
        last = step_of(steps[-1][1])
        return (steps[:-1], steps[-1]) if isinstance(last, FinalStep) and last.searched else (steps, None)

    def _checked_steps(self) -> list[NamedStep]:
        steps = check_steps(self.steps)
        if not steps:
            raise InvalidValueError("steps is empty; give at least one (name, step)")
        return steps

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

    def _part(self, key: slice) -> Self:
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

    def _keep_fitted(self, steps: list[NamedStep], vector_column: str | None, schema: StructType | None) -> None:
        self.steps_ = steps
        self.vector_column_ = vector_column
        self.input_schema_ = schema
        # What a fit that goes on compares with.
        given = check_steps(self.steps)
        self._fitted_from = described(given if final_of(given[-1][1]) is None else given[:-1]) if given else {}

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
