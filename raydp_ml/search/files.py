"""A search in a saved directory: its estimator, its results, and the best estimator."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError
from raydp_ml.persistence.attachments import Attachments
from raydp_ml.persistence.codecs import CannotEncodeError
from raydp_ml.persistence.directory import Savable, read_folder, write_folder
from raydp_ml.persistence.values import encode
from raydp_ml.search.results import param_columns

__all__ = ["read_search", "write_search"]

_ESTIMATOR, _BEST = "estimator", "best"
_ATTRIBUTES = ("best_index_", "best_score_", "refit_time_", "n_splits_", "multimetric_", "learning_curves_")


def write_search(search: Any, path: str) -> dict[str, Any]:
    """Write the estimators of a search, and return the rest of its state.

    Parameters
    ----------
    search : BaseSearch
        What to write.
    path : str
        The directory.

    Raises
    ------
    InvalidTypeError
        When the estimator is none of raydp_ml, which has no safe form for others.
    """
    folder = Path(path)
    best = getattr(search, "best_estimator_", None)
    for name, estimator in ((_ESTIMATOR, search.estimator), (_BEST, best)):
        if estimator is None:
            continue
        if not isinstance(estimator, Savable):
            raise InvalidTypeError(
                f"the search is over a {type(estimator).__name__}, and only estimators and pipelines of raydp_ml can be saved; "
                "joblib.dump writes others"
            )
        (folder / name).mkdir()
        write_folder(estimator, folder / name)
    if not hasattr(search, "cv_results_"):
        return {"fitted": False}
    results = search.cv_results_
    return {
        "fitted": True,
        "attributes": {name: getattr(search, name) for name in _ATTRIBUTES if hasattr(search, name)},
        "candidates": _written(results["params"], Attachments(folder)),
        "columns": {
            name: values for name, values in results.items() if name != "params" and not name.startswith("param_")
        },
    }


def _written(candidates: list[dict[str, Any]], attachments: Attachments) -> list[dict[str, Any]]:
    """The candidates, with values that have no safe form as text."""
    lost: set[str] = set()

    def plain(name: str, value: Any) -> Any:
        try:
            encode(value, attachments)
        except CannotEncodeError:
            lost.add(name)
            return repr(value)
        return value

    written = [{name: plain(name, value) for name, value in params.items()} for params in candidates]
    if lost:
        warnings.warn(
            f"cv_results_ holds values of {', '.join(sorted(lost))} that cannot be written; they are saved as text",
            stacklevel=2,
        )
    return written


def read_search(search: Any, path: str, state: dict[str, Any]) -> None:
    """Take over what :func:`write_search` wrote.

    Parameters
    ----------
    search : BaseSearch
        A new one with its parameters.
    path : str
        The directory.
    state : dict
        What :func:`write_search` returned.
    """
    folder = Path(path)
    search.estimator = read_folder(folder / _ESTIMATOR, prefix="estimator")
    if not state["fitted"]:
        return
    for name, value in state["attributes"].items():
        setattr(search, name, value)
    candidates = state["candidates"]
    columns = {name: np.asarray(values) for name, values in state["columns"].items()}
    search.cv_results_ = {**columns, **param_columns(candidates), "params": candidates}
    if hasattr(search, "best_index_"):
        search.best_params_ = candidates[search.best_index_]
    if (folder / _BEST).is_dir():
        search.best_estimator_ = read_folder(folder / _BEST, prefix="estimator")
