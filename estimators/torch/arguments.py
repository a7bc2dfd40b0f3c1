"""The arguments of a model's ``forward``, and which feature columns reach it as one of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.torch.models import build_module
from raydp_ml.frames.columns import Feature

__all__ = ["Arguments", "arguments_of", "columns_named_by", "types_by_name"]


@dataclass(frozen=True)
class Arguments:
    """The arguments of a ``forward``.

    ``needed`` are those without a default, in order; ``known`` all that have a name. ``takes_any`` says whether it takes arguments
    of any name, and ``takes_rest`` whether it takes further ones without a name.
    """

    needed: tuple[str, ...]
    known: frozenset[str]
    takes_any: bool
    takes_rest: bool

    @property
    def by_name(self) -> bool:
        """Whether columns reach it by name; a single argument is given the matrix of all of them."""
        return len(self.needed) > 1 or (self.takes_any and not self.takes_rest and not self.known)


def arguments_of(model: Any, params: Mapping[str, Any] | None, n_features: int) -> Arguments | None:
    """The arguments of the ``forward`` of a model.

    Parameters
    ----------
    model : torch.nn.Module, class or callable
        The parameter ``model``. A function is called once for what it makes, unless it needs the number of outputs, which is known
        only when labels have been read.
    params : mapping, optional
        The parameter ``model_params``.
    n_features : int
        How many numbers a row's features are.

    Returns
    -------
    Arguments or None
        None where they cannot be told.

    Examples
    --------
    >>> arguments_of(torch.nn.Bilinear, None, 2).needed
    ('input1', 'input2')
    >>> arguments_of(torch.nn.Linear(2, 1), None, 2).by_name
    False
    """
    if isinstance(model, type) and issubclass(model, torch.nn.Module):
        forward, own = model.forward, 1
    else:
        if not isinstance(model, torch.nn.Module):
            if "n_outputs" in inspect.signature(model).parameters:
                return None
            with torch.random.fork_rng(devices=[]):  # the user's random numbers stay those of the training
                model = build_module(model, n_features, 1, params)
        forward, own = model.forward, 0
    try:
        parameters = list(inspect.signature(forward).parameters.values())[own:]
    except (TypeError, ValueError):  # what torch.jit has compiled has none
        return None
    kinds = {item.kind for item in parameters}
    named = [item for item in parameters if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)]
    return Arguments(
        needed=tuple(item.name for item in named if item.default is item.empty),
        known=frozenset(item.name for item in named if item.kind is not item.POSITIONAL_ONLY),
        takes_any=inspect.Parameter.VAR_KEYWORD in kinds,
        takes_rest=inspect.Parameter.VAR_POSITIONAL in kinds,
    )


def columns_named_by(model: Any, params: Mapping[str, Any] | None) -> Arguments | None:
    """The arguments of a model's ``forward`` where columns reach it by name, before any rows are known.

    Parameters
    ----------
    model, params
        As for :func:`arguments_of`.

    Returns
    -------
    Arguments or None
        None where it is given one matrix, and where it cannot be told: a function that makes models of one feature only from rows.

    Examples
    --------
    >>> columns_named_by(torch.nn.Bilinear, None).needed, columns_named_by(torch.nn.Linear(2, 1), None)
    (('input1', 'input2'), None)
    """
    try:
        with torch.device("meta"):  # weights take no memory there
            found = arguments_of(model, params, n_features=1)
    except Exception:  # whatever a user's function needs and does not get here is said by the fit
        return None
    return found if found is not None and found.by_name else None


def types_by_name(feature_types: Any, arguments: Arguments | None, features: Sequence[Feature]) -> Any:
    """The parameter ``feature_types``, with the columns that ``forward`` takes by name in it.

    Parameters
    ----------
    feature_types : dtype, list or dict, optional
        As the user gave it. A dict names columns that reach ``forward`` by name whatever its arguments are.
    arguments : Arguments or None
        Those of ``forward``.
    features : sequence of Feature
        The feature columns.

    Returns
    -------
    dtype, list, dict or None
        A dict of types by name where columns reach ``forward`` by name. Columns of integers are ``int64`` in it unless they were
        given a type, and others ``float32``.

    Raises
    ------
    InvalidValueError
        When columns and arguments do not fit together.
    """
    if arguments is None or not arguments.by_name:
        return feature_types
    names = [feature.name for feature in features]
    given = dict(feature_types) if isinstance(feature_types, Mapping) else {}
    taken = arguments.known
    if given and arguments.needed:
        # A first argument that is not named there is given the matrix of the others.
        taken = taken - {arguments.needed[0]} | given.keys()
    found = {name for name in names if name in taken or (arguments.takes_any and not arguments.known)} | given.keys()
    _check(arguments, [name for name in names if name not in found], found)
    if isinstance(feature_types, Mapping):
        own = given
    elif isinstance(feature_types, Sequence) and not isinstance(feature_types, str):
        if len(feature_types) != len(names):
            raise InvalidValueError(f"feature_types has {len(feature_types)} types for {len(names)} feature columns")
        own = dict(zip(names, feature_types, strict=True))
    else:
        own = {} if feature_types is None else dict.fromkeys(names, feature_types)
    usual = {feature.name: torch.int64 if feature.whole else torch.float32 for feature in features}
    return {
        name: own.get(name, usual.get(name))
        for name in [*(n for n in names if n in found), *(given.keys() - set(names))]
    }


def _check(arguments: Arguments, others: list[str], found: set[str]) -> None:
    lacking = [name for name in arguments.needed if name not in found]
    shown = f"forward({', '.join(arguments.needed)})"
    if arguments.takes_rest or not arguments.needed:
        return
    if others and lacking != [arguments.needed[0]]:
        if lacking:
            raise InvalidValueError(
                f"the model's {shown} takes {', '.join(lacking)}, which are no feature columns (those are "
                f"{', '.join([*sorted(found), *others])}); only its first argument may have a name of its own, and is given the "
                "matrix of the columns that no argument is named after"
            )
        raise InvalidValueError(
            f"the model's {shown} takes columns by name, and none of its arguments is for {', '.join(others)}; leave them out of "
            "feature_columns, or let its first argument take the matrix of them"
        )
    if not others and lacking:
        raise InvalidValueError(
            f"the model's {shown} takes {', '.join(lacking)}, which are no feature columns (those are {', '.join(sorted(found))})"
        )
