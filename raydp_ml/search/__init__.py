"""Search over parameters, by cross-validation on Ray Tune."""

from typing import TYPE_CHECKING

from raydp_ml.lazy import lazy_names

if TYPE_CHECKING:
    from raydp_ml.search.grid import GridSearch as GridSearch
    from raydp_ml.search.plot import plot_search as plot_search
    from raydp_ml.search.randomized import RandomizedSearch as RandomizedSearch

_HOME = {
    "GridSearch": "raydp_ml.search.grid",
    "RandomizedSearch": "raydp_ml.search.randomized",
    "plot_search": "raydp_ml.search.plot",
}

__all__ = ["GridSearch", "RandomizedSearch", "plot_search"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
