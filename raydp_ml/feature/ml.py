"""The Transformers and Estimators of pyspark.ml outside ``pyspark.ml.feature``, described as in :mod:`raydp_ml.feature`.

Classification, regression, clustering, recommendation, frequent patterns, and ``Pipeline``.

Examples
--------
>>> from raydp_ml.feature.ml import LogisticRegression, OneVsRest
>>> OneVsRest(classifier=LogisticRegression(maxIter=10)).set_params(classifier__regParam=0.1)
OneVsRest(classifier=LogisticRegression(maxIter=10, regParam=0.1))
"""

from typing import TYPE_CHECKING, Any

from raydp_ml.feature.catalogue import described_by_name, other_classes
from raydp_ml.feature.stage import Stage

_description = described_by_name(__name__, other_classes)

if TYPE_CHECKING:
    # Type checkers cannot see names that depend on the installed PySpark.
    def __getattr__(name: str) -> type[Stage]: ...

else:

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            return list(other_classes())
        globals()[name] = value = _description(name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *other_classes()})
