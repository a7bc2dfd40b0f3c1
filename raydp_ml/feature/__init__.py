"""The Transformers and Estimators of ``pyspark.ml.feature``, and ``Pipeline``, as descriptions that need no session and no Java.

The names and parameters are those of the installed PySpark. What belongs to other modules of pyspark.ml (``LogisticRegression``,
``KMeans``, ``ALS``) is in :mod:`raydp_ml.feature.ml`, and :func:`describe` takes a user's own stages.

Examples
--------
>>> from raydp_ml.feature import Pipeline, StringIndexer, VectorAssembler
>>> index = StringIndexer(inputCol="carrier", outputCol="carrier_index", handleInvalid="keep")
>>> vec = VectorAssembler(inputCols=["carrier_index", "distance"], outputCol="features")
>>> Pipeline(stages=[index, vec]).get_params()["stages__1__outputCol"]
'features'
"""

from typing import TYPE_CHECKING, Any

from raydp_ml.feature.catalogue import described_by_name, feature_classes
from raydp_ml.feature.stage import Stage
from raydp_ml.feature.stage import describe as describe

_description = described_by_name(__name__, feature_classes)

if TYPE_CHECKING:
    # Type checkers cannot see names that depend on the installed PySpark.
    def __getattr__(name: str) -> type[Stage]: ...

else:

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            return ["Stage", "describe", *feature_classes()]
        globals()[name] = value = _description(name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *feature_classes()})
