"""What a pipeline can do with a step, whatever its kind: the base classes of the kinds.

A kind is a class in a file of its own in this folder, and one entry of ``KINDS`` in ``__init__``. It inherits
:class:`FeatureStep` when it makes a Spark DataFrame of a Spark DataFrame, or :class:`FinalStep` when it trains on what the
feature steps make. A step object holds one value that the user gave, or the fitted form of it, and lives for one question only.

Saving, loading and pickling work on all steps of a kind at once: Spark ML writes and reads its stages with jobs on the
cluster, and their files are then gathered from the nodes once and not once per step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from raydp_ml.errors import InvalidValueError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from raydp_ml.frames.columns import Feature

__all__ = [
    "NOTHING",
    "Beside",
    "FeatureStep",
    "Final",
    "FinalStep",
    "LoadedStep",
    "LoadingSteps",
    "SavedStep",
    "Step",
    "check_param_names",
    "new_vectors",
]


@dataclass(frozen=True)
class SavedStep:
    """A step that is to be saved: its name and position, and its value as given and, in a fitted pipeline, as fitted."""

    name: str
    position: int
    given: Any
    fitted: Any | None

    @property
    def folder(self) -> str:
        """A name for a folder of this step's files, which no other step of the pipeline has."""
        letters = (letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in self.name)
        return f"{self.position:02d}_{''.join(letters)}"


@dataclass(frozen=True)
class LoadedStep:
    """The values of a step that was saved, as given and as fitted; the second counts only in a fitted pipeline."""

    given: Any
    fitted: Any


@dataclass(frozen=True)
class LoadingSteps:
    """What the kinds need to know of a load in progress.

    Parameters
    ----------
    folder : Path
        The saved directory of the pipeline.
    fitted : bool
        Whether the saved pipeline was fitted.
    session : callable
        Gives the Spark session, which it starts when the pipeline has arguments for that.
    """

    folder: Path
    fitted: bool
    session: Callable[[], SparkSession]


class Step(ABC):
    """A step of a pipeline.

    Parameters
    ----------
    value : object
        What the user gave, or what :meth:`fit` made of it.
    """

    kind: ClassVar[str]
    """The word for the kind in saved directories, where it must not change, and in messages."""

    needs_session: ClassVar[bool] = False
    """Whether values of this kind live in Spark's JVM, so that loading and unpickling them need a session."""

    replaceable: ClassVar[bool] = False
    """Whether ``load(path, params={name: step})`` may give a step back in place of the one that was saved."""

    draws_itself: ClassVar[bool] = False
    """Whether scikit-learn draws the value in the HTML diagram, with its parameters."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    @abstractmethod
    def recognise(cls, value: Any) -> bool:
        """Whether a value that a user gave is a step of this kind.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            When it is meant as one and cannot be used, with the reason.
        """

    def copy(self) -> Any:
        """An independent and unfitted copy of the value."""
        return self.value

    # ---- parameters ------------------------------------------------------------------------------------------------

    def get_params(self) -> dict[str, Any]:
        """Parameters of the value by name; None for one without a value."""
        return {}

    def set_params(self, name: str, params: Mapping[str, Any]) -> None:
        """Set parameters of the value, which is changed.

        Parameters
        ----------
        name : str
            Name of the step, for messages.
        params : mapping
            Values by name.
        """
        raise InvalidValueError(
            f"step {name!r} is a {self.kind} step and has no parameters, so {name}__{next(iter(params))} cannot be set; "
            f"replace the step with set_params({name}=...)"
        )

    def describe(self) -> tuple[str, str]:
        """A title and details, for the HTML diagram."""
        return type(self.value).__name__, str(self.value)

    # ---- saved directories -----------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def save(cls, steps: Sequence[SavedStep], folder: Path) -> list[dict[str, Any]]:
        """Write the steps of this kind.

        Parameters
        ----------
        steps : sequence of SavedStep
            All steps of the pipeline that are of this kind.
        folder : Path
            The directory of the pipeline; files go to a folder below it.

        Returns
        -------
        list of dict
            For each step what :meth:`load` needs besides the files, as values that JSON has.
        """

    @classmethod
    @abstractmethod
    def load(cls, records: Sequence[Mapping[str, Any]], loading: LoadingSteps) -> list[LoadedStep]:
        """Read the steps that :meth:`save` wrote.

        Parameters
        ----------
        records : sequence of mapping
            What :meth:`save` returned, each with the ``name`` of its step.
        loading : LoadingSteps
            The load in progress.

        Returns
        -------
        list of LoadedStep
            One for each record.
        """

    # ---- pickles ---------------------------------------------------------------------------------------------------

    @classmethod
    def pack(cls, values: Sequence[Any]) -> list[Any]:
        """Values of this kind, given or fitted, as objects that pickle takes; for :meth:`unpack`."""
        return list(values)

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> list[Any]:
        """The values that :meth:`pack` packed. Like all unpickling it trusts what it reads."""
        return list(packed)


class FeatureStep(Step):
    """A step that makes a Spark DataFrame of a Spark DataFrame."""

    @property
    def learns(self) -> bool:
        """Whether :meth:`fit` looks at rows."""
        return False

    @property
    def row_wise(self) -> bool:
        """Whether the step certainly neither learns nor looks at more than one row, and keeps columns that it does not know."""
        return False

    def fit(self, df: DataFrame) -> Any:
        """The fitted form of the value, a new object where the value can change.

        Parameters
        ----------
        df : pyspark.sql.DataFrame
            The training rows as the steps before leave them.
        """
        return self.copy()

    @abstractmethod
    def apply(self, name: str, df: DataFrame) -> DataFrame:
        """The frame after this step, whose value is fitted.

        Parameters
        ----------
        name : str
            Name of the step, for messages.
        df : pyspark.sql.DataFrame
            The frame before it.

        Returns
        -------
        pyspark.sql.DataFrame
            Lazy, as always in Spark.
        """

    def vector_column(self, before: DataFrame, after: DataFrame) -> str | None:
        """The vector column that :meth:`apply` made of ``before``: the last one that was not there; None without one."""
        fresh = new_vectors(before, after)
        return fresh[-1] if fresh else None

    def as_final(self) -> Final | None:
        """What this step is as the last of a pipeline, if it then predicts labels; None where it goes on making a frame."""
        return None


@dataclass(frozen=True)
class Beside:
    """What the fit of a last step goes by besides its rows.

    Parameters
    ----------
    weight_column : str or None
        A column of weights, in place of the one that the step names.
    previous : object or None
        The fitted form of before, to train on from.
    held_out : pyspark.sql.DataFrame or None
        Rows to validate on, after the feature steps, in place of what the step says of validation.
    resume : bool
        Whether to go on from the last checkpoint of a fit that was interrupted; :meth:`Final.check_resume` has been asked.
    """

    weight_column: str | None = None
    previous: Any = None
    held_out: DataFrame | None = None
    resume: bool = False


NOTHING = Beside()


class Final(ABC):
    """What the last step of a pipeline can do when it predicts."""

    reads: ClassVar[int] = 1
    """How often it reads the rows to train."""

    @property
    def validation(self) -> Any:
        """What the value holds out to validate on: a fraction, the name of a column, a frame, or None."""
        return None

    @property
    def seed(self) -> int:
        """What a random choice of rows goes by."""
        return 0

    @property
    def verbose(self) -> bool:
        """Whether a fit says what it waits for."""
        return True

    @property
    def goes_on(self) -> bool:
        """Whether a second fit trains on from the first."""
        return False

    def check_resume(self) -> None:
        """Raise when an interrupted fit of this step leaves no checkpoints to go on from."""
        raise InvalidValueError(
            "resume=True goes on from the checkpoints of an interrupted fit, which only an estimator of raydp_ml with storage_path "
            "writes; the last step of this pipeline is none"
        )

    @abstractmethod
    def fit(self, df: DataFrame, vector_column: str | None, beside: Beside = NOTHING) -> Any:
        """The fitted form of the step's value, a new object.

        Parameters
        ----------
        df : pyspark.sql.DataFrame
            The training rows after the feature steps.
        vector_column : str or None
            The last vector column that a feature step made, which is used alone when the estimator names no columns.
        beside : Beside
            What the fit goes by besides.
        """

    @abstractmethod
    def features(self) -> tuple[Feature, ...]:
        """The columns that the fitted value reads."""

    @abstractmethod
    def estimator(self) -> Any:
        """The value with the methods and attributes of an estimator of raydp_ml, for Spark DataFrames."""


class FinalStep(Step, Final):
    """A step that trains on what the feature steps make, and predicts; it can only be the last."""

    searched: ClassVar[bool] = False
    """Whether a search can train it in its trials."""

    def estimator(self) -> Any:
        return self.value


def new_vectors(before: DataFrame, after: DataFrame) -> list[str]:
    """Vector columns of a frame that the frame before a step does not have, in their order."""
    from pyspark.ml.linalg import VectorUDT

    old = set(before.columns)
    return [
        field.name for field in after.schema.fields if isinstance(field.dataType, VectorUDT) and field.name not in old
    ]


def check_param_names(name: str, value: Any, known: Sequence[str], params: Mapping[str, Any]) -> None:
    """Raise for parameters that a step does not have.

    Parameters
    ----------
    name : str
        Name of the step.
    value : object
        Its value.
    known : sequence of str
        The parameters that it has.
    params : mapping
        The parameters that are to be set.
    """
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise InvalidValueError(
            f"step {name!r}, a {type(value).__name__}, has no parameter {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(sorted(known))}"
        )
