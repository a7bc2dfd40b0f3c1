"""The private parts of Spark's RFormulaModel, in one place: the stages that it is made of.

Seen in Spark 3.5.9, 4.0.1 and 4.3.0; the test of RFormula in tests/serving fails when they move.
"""

from __future__ import annotations

from typing import Any

__all__ = ["formula_parts"]

_FEATURES = "org.apache.spark.ml.feature."


def formula_parts(model: Any) -> tuple[list[Any], tuple[str, ...]]:
    """The public stages inside an RFormulaModel, and the columns that it drops at its end.

    Parameters
    ----------
    model : pyspark.ml.feature.RFormulaModel
        A fitted formula.

    Returns
    -------
    stages : list of pyspark.ml.Transformer
        In their order.
    dropped : tuple of str
        Names of columns.
    """
    from pyspark.ml.wrapper import JavaParams

    stages: list[Any] = []
    dropped: list[str] = []
    for stage in model._java_obj.pipelineModel().stages():
        name = stage.getClass().getName()
        if name == _FEATURES + "ColumnPruner":
            columns = stage.columnsToPrune().iterator()
            while columns.hasNext():
                dropped.append(columns.next())
        elif name != _FEATURES + "VectorAttributeRewriter":  # which changes names of elements alone
            stages.append(JavaParams._from_java(stage))
    return stages, tuple(dropped)
