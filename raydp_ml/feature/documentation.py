"""The docstring of a description: what Spark says of the class, its parameters, and where the whole of it is written."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from raydp_ml.feature.parameters import Parameter, Parameters

__all__ = ["docstring", "reference_url"]


def reference_url(spark_class: type) -> str:
    """The page of Spark's reference on a class, of the installed version; empty for a class that is not Spark's.

    Examples
    --------
    >>> from pyspark.ml.feature import Binarizer
    >>> reference_url(Binarizer).rpartition("/")[2]
    'pyspark.ml.feature.Binarizer.html'
    """
    import pyspark

    if not spark_class.__module__.startswith("pyspark.ml."):
        return ""
    # Spark documents the names of modules that users import from; pyspark.ml.pipeline is not one.
    module = spark_class.__module__.removesuffix(".pipeline")
    return (
        f"https://spark.apache.org/docs/{pyspark.__version__}/api/python/reference/api/"
        f"{module}.{spark_class.__name__}.html"
    )


def docstring(spark_class: type, parameters: Parameters) -> str:
    """The docstring of the description of a class.

    Parameters
    ----------
    spark_class : type
        The class of Spark ML.
    parameters : Parameters
        What it takes.

    Returns
    -------
    str
        In numpydoc's form.
    """
    qualified = f"{spark_class.__module__}.{spark_class.__name__}"
    url = reference_url(spark_class)
    lines = [
        f"{spark_class.__name__} of Spark ML, written down: it needs neither a session nor Java until ``to_spark()`` is called.",
        "",
        *_summary(spark_class),
        f"Describes :class:`{qualified}`" + (f", see {url}" if url else "") + ".",
        "",
        "Parameters",
        "----------",
    ]
    for parameter in parameters.by_name.values():
        lines.append(f"{parameter.name} : {_type(parameter)}")
        lines += textwrap.wrap(
            parameter.doc or "An argument of the constructor.",
            120,
            initial_indent="    ",
            subsequent_indent="    ",
            break_long_words=False,
        )
    return "\n".join(lines) + "\n"


def _summary(spark_class: type) -> list[str]:
    """The first paragraph of Spark's own docstring."""
    text = inspect.cleandoc(spark_class.__dict__.get("__doc__") or "")
    first = text.split("\n\n")[0].strip()
    return [*first.splitlines(), ""] if first and not first.startswith("..") else []


def _type(parameter: Parameter) -> str:
    kind: Any = parameter.type_name or "object"
    if parameter.required:
        return kind
    return f"{kind}, optional" if parameter.default is None else f"{kind}, default {parameter.default!r}"
