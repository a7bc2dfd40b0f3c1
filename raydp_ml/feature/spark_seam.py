"""The private part of pyspark.ml that descriptions need, in one place.

Seen in PySpark 3.5.9, 4.0.1 and 4.3.0; tests/feature/test_seam.py watches it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["defaults_without_java"]


def defaults_without_java(spark_class: type) -> dict[str, Any] | None:
    """The default values of a class of pyspark.ml, as its own constructor sets them, without a JVM.

    The signature does not always tell them: ``GBTRegressor`` has ``validationTol=0.1`` there and sets 0.01. The constructor asks
    for its companion in the JVM by ``self._new_java_obj``, and sets the defaults of its Params in Python alone. A subclass that
    answers with no companion runs the rest.

    Parameters
    ----------
    spark_class : type
        A class of pyspark.ml whose constructor takes no required argument.

    Returns
    -------
    dict or None
        Values by name of Param; None where the constructor asks the JVM for more than the companion, as that of
        ``StopWordsRemover`` does (the list of words).
    """
    without_java = type(spark_class.__name__, (spark_class,), {"_new_java_obj": staticmethod(_no_companion)})
    try:
        stage = without_java()
    except (AssertionError, AttributeError):
        # PySpark asserts a SparkContext before it asks the JVM, and with one it looks for a method on our missing companion.
        return None
    values = {param.name: stage.getOrDefault(param) for param in stage.params if stage.hasDefault(param)}
    # A name made of the object's id (``outputCol``) is another for each object.
    return {name: value for name, value in values.items() if not (isinstance(value, str) and stage.uid in value)}


def _no_companion(*args: Any) -> None:
    return None
