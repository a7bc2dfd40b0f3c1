"""The private part of pyspark.ml that descriptions use: this fails clearly when it moves."""

from __future__ import annotations

import pytest
from pyspark.ml import feature as spark_feature

from raydp_ml import feature
from raydp_ml.feature.spark_seam import defaults_without_java

EVERY = [getattr(feature, name) for name in feature.__all__ if name not in ("Stage", "describe")]
EVERY += [getattr(feature.ml, name) for name in feature.ml.__all__ if name != "Pipeline"]


@pytest.mark.spark35
def test_constructors_set_defaults_without_java():
    asked_for_more = {kind.__name__ for kind in EVERY if defaults_without_java(kind.spark_class) is None}
    assert asked_for_more == {"StopWordsRemover"}, (
        "PySpark's constructors get at the JVM in another way than self._new_java_obj: see raydp_ml/feature/spark_seam.py"
    )
    assert defaults_without_java(spark_feature.Binarizer) == {"threshold": 0.0}
