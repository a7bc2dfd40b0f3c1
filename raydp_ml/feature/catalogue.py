"""Which classes of the installed pyspark.ml are described, and in which of our two modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from types import ModuleType

from raydp_ml.feature.stage import Stage, stage_type

__all__ = ["described_by_name", "feature_classes", "other_classes"]

# Its classes search over Params of real objects, and fold over real frames.
_SEARCHES = "pyspark.ml.tuning"


def feature_classes() -> dict[str, type]:
    """The classes of pyspark.ml.feature, and pyspark.ml.Pipeline, which puts them together.

    Examples
    --------
    >>> "VectorAssembler" in feature_classes(), "VectorIndexerModel" in feature_classes()
    (True, False)
    """
    return {
        name: kind
        for name, kind in _all_classes().items()
        if kind.__module__ in ("pyspark.ml.feature", "pyspark.ml.pipeline")
    }


def other_classes() -> dict[str, type]:
    """The classes of pyspark.ml's other modules.

    Examples
    --------
    >>> other_classes()["ALS"].__module__
    'pyspark.ml.recommendation'
    """
    return {name: kind for name, kind in _all_classes().items() if kind.__module__ != "pyspark.ml.feature"}


@cache
def _all_classes() -> dict[str, type]:
    """What a user constructs: exported, concrete, and no model that fitting makes."""
    import pyspark.ml
    from pyspark.ml import Estimator, Model, Transformer

    found = {}
    for module in list(vars(pyspark.ml).values()):
        if not isinstance(module, ModuleType) or not module.__name__.startswith("pyspark.ml."):
            continue
        exported = {*getattr(module, "__all__", ()), *pyspark.ml.__all__}
        for name, kind in vars(module).items():
            if (
                name in exported
                and isinstance(kind, type)
                and kind.__module__ == module.__name__ != _SEARCHES
                and issubclass(kind, Estimator | Transformer)
                and not issubclass(kind, Model)
                and not inspect.isabstract(kind)
            ):
                found[name] = kind
    return dict(sorted(found.items()))


def described_by_name(module: str, classes: Callable[[], dict[str, type]]) -> Callable[[str], type[Stage]]:
    """A module's ``__getattr__`` that makes descriptions when they are asked for.

    Parameters
    ----------
    module : str
        Name of the module, for messages.
    classes : callable
        Gives the classes that it has.

    Returns
    -------
    callable
        Takes a name, and gives the description class or raises AttributeError.
    """

    def __getattr__(name: str) -> type[Stage]:
        # Names of classes begin with a capital letter. Others are looked up by the import system, which need not import PySpark.
        kind = classes().get(name) if name[:1].isupper() else None
        if kind is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}{_reason(name)}")
        return stage_type(kind)

    return __getattr__


def _reason(name: str) -> str:
    if name in ("CrossValidator", "TrainValidationSplit"):
        return "; raydp_ml.GridSearch searches over parameters"
    if name[:1].isupper() and name.endswith("Model"):
        return "; only what can be fitted or used at once is described, and a model is made by fitting"
    return ""
