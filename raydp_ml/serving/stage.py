"""LocalStage: what a fitted stage does to a row, as a small value with plain fields; and how it is written down."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.serving.columns import LocalFrame

__all__ = ["Chain", "ColumnStage", "JoiningStage", "LocalStage", "PairsStage", "fail_where", "from_plain", "to_plain"]


class LocalStage(ABC):
    """A fitted stage without Spark.

    Subclasses are frozen dataclasses whose fields are strings, numbers, tuples, numpy arrays and other stages. Their names in
    a saved directory are those of the classes, so a class may move to another module but not change its name.
    """

    _by_name: ClassVar[dict[str, type[LocalStage]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._by_name[cls.__name__] = cls

    @abstractmethod
    def transform(self, frame: LocalFrame) -> LocalFrame:
        """The frame with the stage's columns.

        Parameters
        ----------
        frame : LocalFrame
            The columns before it.

        Returns
        -------
        LocalFrame
            The columns after it, without the rows that it skips.

        Raises
        ------
        InvalidValueError
            For a row on which Spark's stage fails, too.
        """

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The columns that it reads."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """The columns that it makes."""

    @property
    def drops_rows(self) -> bool:
        """Whether it may skip rows, so that it counts also where nobody reads its columns."""
        return False


@dataclass(frozen=True)
class ColumnStage(LocalStage):
    """A stage that makes one column of another."""

    input_column: str
    output_column: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input_column,)

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.output_column,)


@dataclass(frozen=True)
class PairsStage(LocalStage):
    """A stage that makes a column of each of some columns."""

    input_columns: tuple[str, ...]
    output_columns: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.input_columns

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.output_columns


@dataclass(frozen=True)
class JoiningStage(LocalStage):
    """A stage that makes one column of several."""

    input_columns: tuple[str, ...]
    output_column: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.input_columns

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.output_column,)


@dataclass(frozen=True)
class Chain(LocalStage):
    """Stages one after another, of which some columns are dropped at the end."""

    stages: tuple[LocalStage, ...]
    dropped: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        needed: dict[str, None] = {}
        made: set[str] = set()
        for stage in self.stages:
            needed.update(dict.fromkeys(name for name in stage.inputs if name not in made))
            made.update(stage.outputs)
        return tuple(needed)

    @property
    def outputs(self) -> tuple[str, ...]:
        made = dict.fromkeys(name for stage in self.stages for name in stage.outputs)
        return tuple(name for name in made if name not in self.dropped)

    @property
    def drops_rows(self) -> bool:
        return any(stage.drops_rows for stage in self.stages)

    def transform(self, frame: LocalFrame) -> LocalFrame:
        for stage in self.stages:
            frame = stage.transform(frame)
        return frame.without(self.dropped) if self.dropped else frame


def to_plain(stage: LocalStage) -> dict[str, Any]:
    """A stage as its class's name and fields; arrays stay numpy arrays.

    Examples
    --------
    >>> to_plain(Chain(()))
    {'stage': 'Chain', 'fields': {'stages': [], 'dropped': []}}
    """
    fields = {field.name: getattr(stage, field.name) for field in dataclasses.fields(stage)}  # type: ignore[arg-type]
    return {"stage": type(stage).__name__, "fields": {name: _plain(value) for name, value in fields.items()}}


def from_plain(written: Mapping[str, Any]) -> LocalStage:
    """The stage that :func:`to_plain` wrote.

    Raises
    ------
    InvalidValueError
        When this is something else. Only classes of this package are made, whatever it says.
    """
    import raydp_ml.serving.classes  # noqa: F401, so that all classes are known

    try:
        kind = LocalStage._by_name[written["stage"]]
        return kind(**{name: _value(item) for name, item in written["fields"].items()})
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidValueError(f"this is no stage as it was written: {written!r}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, LocalStage):
        return to_plain(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _value(written: Any) -> Any:
    if isinstance(written, list):
        return tuple(_value(item) for item in written)
    return from_plain(written) if isinstance(written, dict) else written


def fail_where(wrong: np.ndarray | None, message: str) -> None:
    """Raise with the number of the first row that is wrong, if one is."""
    if wrong is not None and wrong.any():
        raise InvalidValueError(f"{message} (row {int(np.argmax(wrong))})")
