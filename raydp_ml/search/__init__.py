"""Search over parameters, by cross-validation on Ray Tune."""

from typing import TYPE_CHECKING

from raydp_ml.lazy import lazy_names

if TYPE_CHECKING:
    from raydp_ml.search.grid import GridSearch as GridSearch

_HOME = {
    "GridSearch": "raydp_ml.search.grid",
}

__all__ = ["GridSearch"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
