"""The names of RayDP over raydp_ml, for its programs and for Ray Data's ``from_spark`` and ``to_spark``, which import them.

Only argument names, order and defaults are RayDP's. Everything is loaded when it is first used.
"""

from importlib import import_module
from typing import Any

from raydp_ml import __version__

_HOME = {"init_spark": "raydp_ml.session", "stop_spark": "raydp_ml.session"}
_MODULES = ("context", "estimator", "spark", "tf", "torch", "utils", "xgboost")

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"raydp.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'raydp' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
