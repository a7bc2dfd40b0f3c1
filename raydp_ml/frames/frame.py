"""What every kind of input can do, whatever library it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from raydp_ml.errors import InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    import numpy as np
    from pyspark.sql import DataFrame, SparkSession

    from raydp_ml.frames.arrays import Arrays, Blocks
    from raydp_ml.frames.categories import Category
    from raydp_ml.frames.columns import Column, Selection
    from raydp_ml.frames.prediction import Predictor

__all__ = ["Frame"]


class Frame(ABC):
    """One input with named columns, behind the face that estimators, pipelines and searches need.

    A kind is a class in a file of its own, and one line in :mod:`raydp_ml.frames.registry`.
    """

    kind: ClassVar[str]
    """How messages call this kind; kinds are told apart by their classes."""

    distributed: ClassVar[bool] = False
    """Whether the rows lie with Spark or Ray rather than in this process."""

    # ---- columns ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def columns(self) -> list[Column]:
        """Describe the columns."""

    def columns_now(self) -> list[Column] | None:
        """Describe the columns where that computes no rows; None where it would."""
        return self.columns()

    @abstractmethod
    def vector_width(self, name: str) -> int:
        """The length of the vectors in a column whose schema does not tell it; reads a row."""

    def categories(self, names: Sequence[str]) -> dict[str, tuple[Category, ...]]:
        """The categories of columns of the kind ``"category"``, in the order of their codes.

        Parameters
        ----------
        names : sequence of str
            The columns.

        Raises
        ------
        InvalidTypeError
            By default: a kind that describes such columns has this method.
        """
        raise InvalidTypeError(f"a {self.kind} has no columns of categories")

    @classmethod
    def require_distinct(cls, names: Sequence[str]) -> None:
        """Raise when several columns have the same name."""
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InvalidValueError(f"the {cls.kind} has several columns named {repeated}; rename them first")

    def drop(self, names: Sequence[str]) -> Any:
        """The input without some columns, in this frame's own kind.

        Parameters
        ----------
        names : sequence of str
            Columns that the frame has.

        Raises
        ------
        InvalidTypeError
            By default: a kind that searches take with ``groups`` or ``cv`` in a column has this method.
        """
        raise InvalidTypeError(f"columns cannot be left out of a {self.kind}")

    # ---- rows ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def count(self) -> int:
        """How many rows there are; computes them where they are not counted yet."""

    def take(self, positions: Sequence[int] | np.ndarray) -> Any:
        """The rows at some positions, in this frame's own kind.

        Parameters
        ----------
        positions : sequence of int
            Numbers of rows, from 0.

        Raises
        ------
        InvalidTypeError
            By default, for the rows of most distributed kinds have no order; a kind whose rows lie in this process has this method.
        """
        raise InvalidTypeError(f"rows of a {self.kind} cannot be taken by their position")

    # ---- training and predicting -----------------------------------------------------------------------------------

    @abstractmethod
    def load(self, selection: Selection) -> Arrays | Blocks:
        """The selected columns: as arrays when the frame is local, otherwise as blocks in Ray's object store."""

    @abstractmethod
    def with_predictions(self, predictor: Predictor, selection: Selection, output: str, name: str) -> Any:
        """Append a column of predictions, in this frame's own kind.

        Parameters
        ----------
        predictor : Predictor
            What predicts.
        selection : Selection
            The features.
        output : str
            What the column holds: "prediction", "probability", or another output that the predictor has.
        name : str
            Name of the column.
        """

    def warm_predictions(self, modules: tuple[str, ...]) -> None:  # noqa: B027 - by default predictions start no process
        """Have what a model needs to predict imported where this kind of frame predicts; does not wait for it.

        Parameters
        ----------
        modules : tuple of str
            What to import.
        """

    @abstractmethod
    def pull(self, names: list[str]) -> dict[str, np.ndarray]:
        """Bring columns into this process."""

    # ---- through Spark and back ------------------------------------------------------------------------------------

    @abstractmethod
    def to_spark(self, session: Callable[[], SparkSession]) -> DataFrame:
        """The rows as a Spark DataFrame.

        Parameters
        ----------
        session : callable
            Gives the Spark session; called only by kinds that are not Spark's already.
        """

    def give_back(self, result: DataFrame) -> Any:
        """A Spark DataFrame as a frame of this kind; by default it stays what it is."""
        return result
