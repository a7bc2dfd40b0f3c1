"""The steps of a pipeline in saved directories and in pickles; what a step is there, its kind says.

The steps are handed to their kinds in groups, because Spark ML writes and reads many stages in the time of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from raydp_ml.errors import SessionStoppedError
from raydp_ml.persistence.directory import overrides
from raydp_ml.pipeline.steps import NamedStep, Step, kind_named, step_of
from raydp_ml.pipeline.steps.step import LoadedStep, LoadingSteps, SavedStep

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["load_steps", "pack_steps", "save_steps", "unpack_steps"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class _PackedStep:
    """A step in a pickle: its kind, and what that made of the value."""

    kind: str
    content: Any


def save_steps(path: str, steps: Sequence[NamedStep], fitted: Sequence[NamedStep] | None) -> dict[str, Any]:
    """Write steps below a directory.

    Parameters
    ----------
    path : str
        The directory.
    steps, fitted : sequence of (name, step)
        The steps as given and, when the pipeline is fitted, as fitted.

    Returns
    -------
    dict
        The rest of the state.
    """
    folder = Path(path)
    saved = [
        SavedStep(name, position, value, None if fitted is None else fitted[position][1])
        for position, (name, value) in enumerate(steps)
    ]
    kinds = [type(step_of(value)) for _, value in steps]
    records = _by_kind(kinds, saved, lambda kind, group: kind.save(group, folder))
    return {
        "steps": [
            {"name": name, "kind": kind.kind, **record}
            for (name, _), kind, record in zip(steps, kinds, records, strict=True)
        ],
        "fitted": fitted is not None,
    }


def load_steps(
    path: str, state: Mapping[str, Any], session: Callable[[], SparkSession]
) -> tuple[list[NamedStep], list[NamedStep] | None]:
    """The steps that :func:`save_steps` wrote, within a load in progress.

    Parameters
    ----------
    path : str
        The directory.
    state : mapping
        What :func:`save_steps` returned.
    session : callable
        Gives the Spark session, when there are Spark ML stages.

    Returns
    -------
    steps, fitted : list of (name, step)
        The second is None for a pipeline that was not fitted.
    """
    records = state["steps"]
    loading = LoadingSteps(Path(path), state["fitted"], session)
    names = [record["name"] for record in records]
    loaded = _by_kind(
        [kind_named(record["kind"]) for record in records], records, lambda kind, group: _load(kind, group, loading)
    )
    steps = [(name, step.given) for name, step in zip(names, loaded, strict=True)]
    fitted = [(name, step.fitted) for name, step in zip(names, loaded, strict=True)]
    return steps, fitted if loading.fitted else None


def pack_steps(lists: Mapping[str, Sequence[NamedStep]]) -> dict[str, list[NamedStep]]:
    """Lists of steps with everything in them made fit for pickle.

    Parameters
    ----------
    lists : mapping
        Lists of (name, step).

    Returns
    -------
    dict
        The lists for :func:`unpack_steps`.
    """
    values = [value for steps in lists.values() for _, value in steps]
    kinds = [type(step_of(value)) for value in values]
    packed = _by_kind(kinds, values, lambda kind, group: kind.pack(group))
    return _refill(lists, [_PackedStep(kind.kind, item) for kind, item in zip(kinds, packed, strict=True)])


def unpack_steps(
    lists: Mapping[str, Sequence[NamedStep]], session: Callable[[], SparkSession]
) -> dict[str, list[NamedStep]]:
    """The steps that :func:`pack_steps` packed.

    Parameters
    ----------
    lists : mapping
        What it returned.
    session : callable
        Gives the Spark session, when there are Spark ML stages.

    Returns
    -------
    dict
        Lists of (name, step).
    """
    packed = [item for steps in lists.values() for _, item in steps]
    kinds = [kind_named(item.kind) for item in packed]
    if any(kind.needs_session for kind in kinds):
        try:
            session()
        except SessionStoppedError as error:
            raise SessionStoppedError(
                "this pipeline has Spark ML stages, which live in Spark's JVM, and there is no Spark session: call "
                "raydp_ml.init_spark(...) before you unpickle it"
            ) from error
    contents = [item.content for item in packed]
    return _refill(lists, _by_kind(kinds, contents, lambda kind, group: kind.unpack(group)))


def _load(kind: type[Step], records: Sequence[Mapping[str, Any]], loading: LoadingSteps) -> list[LoadedStep]:
    """Steps of one kind, in place of which the caller of load may have given others."""
    given = overrides() if kind.replaceable else {}
    saved = iter(kind.load([record for record in records if record["name"] not in given], loading))
    loaded = []
    for record in records:
        if record["name"] not in given:
            loaded.append(next(saved))
            continue
        value = given[record["name"]]
        step_of(value)
        loaded.append(LoadedStep(value, value))
    return loaded


def _by_kind(
    kinds: Sequence[type[Step]],
    items: Sequence[ItemT],
    handle: Callable[[type[Step], list[ItemT]], list[ResultT]],
) -> list[ResultT]:
    """What ``handle`` makes of the items of each kind, in the order of all items."""
    results: dict[int, ResultT] = {}
    # Kinds without a session come first: an error that they have, such as trust that is missing, takes no seconds of Spark.
    for kind in sorted(dict.fromkeys(kinds), key=lambda kind: kind.needs_session):
        positions = [position for position, other in enumerate(kinds) if other is kind]
        results.update(zip(positions, handle(kind, [items[position] for position in positions]), strict=True))
    return [results[position] for position in range(len(items))]


def _refill(lists: Mapping[str, Sequence[NamedStep]], values: Sequence[Any]) -> dict[str, list[NamedStep]]:
    """The lists with other values, which come in the order of the lists."""
    rest = iter(values)
    return {key: [(name, next(rest)) for name, _ in steps] for key, steps in lists.items()}
