"""Saving and loading: directories that run no code when they are loaded."""

from typing import TYPE_CHECKING

from raydp_ml.lazy import lazy_names

if TYPE_CHECKING:
    from raydp_ml.persistence.directory import FORMAT_VERSION as FORMAT_VERSION
    from raydp_ml.persistence.directory import Savable as Savable
    from raydp_ml.persistence.directory import load as load
    from raydp_ml.persistence.directory import save as save

_HOME = {
    "FORMAT_VERSION": "raydp_ml.persistence.directory",
    "Savable": "raydp_ml.persistence.directory",
    "load": "raydp_ml.persistence.directory",
    "save": "raydp_ml.persistence.directory",
}

__all__ = ["FORMAT_VERSION", "Savable", "load", "save"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
