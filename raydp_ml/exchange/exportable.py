"""A Spark frame made ready to cross: checked, with its ML vectors in a form that the JVM's encoder takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import ray.data

from raydp_ml.errors import InvalidTypeError, InvalidValueError, SessionStoppedError
from raydp_ml.exchange import context as contexts
from raydp_ml.exchange.connect import is_connect
from raydp_ml.exchange.context import ExchangeContext
from raydp_ml.exchange.types import known_zone

if TYPE_CHECKING:
    import pyspark.sql
    from pyspark.sql.types import DataType

VectorForm: TypeAlias = Literal["tensor", "list", "sparse"]


@dataclass(frozen=True)
class ExportableFrame:
    """What crosses, and what is known of it.

    Attributes
    ----------
    df : pyspark.sql.DataFrame
        The frame.
    context : ExchangeContext, optional
        The application that computes it; None for a session that raydp_ml did not start.
    vectors : tuple of str
        Columns that were ML vectors and whose length has to be found out.
    sizes : dict
        Length of the vectors by column, where it is known.
    tensors : tuple of str
        Columns that were ML vectors and arrive as tensors.
    sparse : bool
        Whether ML vectors arrive as sparse vectors.
    """

    df: pyspark.sql.DataFrame
    context: ExchangeContext | None
    vectors: tuple[str, ...]
    sizes: dict[str, int]
    tensors: tuple[str, ...]
    sparse: bool

    @classmethod
    def of(cls, df: Any, vector_sizes: dict[str, int] | None = None, vectors: VectorForm = "tensor") -> ExportableFrame:
        """Check a frame.

        Parameters
        ----------
        df : pyspark.sql.DataFrame or pyspark.pandas.DataFrame
            What the user gave.
        vector_sizes : dict, optional
            Lengths that the user knows.
        vectors : str
            The form in which ML vectors arrive.

        Raises
        ------
        InvalidTypeError, InvalidValueError, SessionStoppedError
            When it cannot cross.
        """
        if vectors not in get_args(VectorForm):
            raise InvalidValueError(f"vectors={vectors!r} must be 'tensor', 'list' or 'sparse'")
        df = spark_frame(df)
        context = _context(df)
        if context is not None:
            context.require_alive()
        _check_columns(df)
        sizes = dict(vector_sizes or {})
        unknown = sorted(set(sizes) - set(df.columns))
        if unknown:
            raise InvalidValueError(f"vector_sizes names the columns {unknown}, but the frame has {df.columns}")
        names = _vector_columns(df)
        sparse = vectors == "sparse"
        encoded = _encodes_vectors(context, df)
        if sparse and names and not encoded:
            raise InvalidTypeError(
                f"vectors='sparse' is for frames of a session of init_spark whose columns it encodes itself; the vectors {names} "
                "cross from this session, or beside intervals and variants, as tensors or lists only"
            )
        if sparse and set(names) & set(sizes):
            raise InvalidValueError(
                f"vector_sizes names {sorted(set(names) & set(sizes))}, but sparse vectors need no size"
            )
        if not encoded:
            _refuse_inner_vectors(df)
            df = _vectors_as_arrays(df, names) if names else df
        sought = () if sparse else tuple(name for name in names if name not in sizes)
        return cls(df, context, sought, sizes, tuple(names) if vectors == "tensor" else (), sparse)

    def exporter(self, export_id: str, parallelism: int = 0) -> Any:
        """The JVM's side of the conversion (Exporter.scala), for a frame with a context.

        Parameters
        ----------
        export_id : str
            Its name.
        parallelism : int
            Number of partitions; 0: as they are.
        """
        if self.context is None:
            raise InvalidValueError("the frame's session was not started by raydp_ml.init_spark")
        jvm: Any = self.context.spark._jvm
        level = self.df.storageLevel
        # A frame that was planned before it was persisted remembers a plan that computes everything.
        planned = self.df.select("*") if level.useMemory or level.useDisk else self.df
        return jvm.org.apache.spark.sql.raydpml.Exporter(
            planned._jdf.queryExecution(),
            export_id,
            known_zone(str(self.df.sparkSession.conf.get("spark.sql.session.timeZone"))),
            ray.data.DataContext.get_current().target_max_block_size or (128 << 20),
            list(self.vectors),
            self.sparse,
            parallelism,
        )


def spark_frame(df: Any) -> pyspark.sql.DataFrame:
    """A Spark or pandas-on-Spark frame as a Spark frame; anything else is an InvalidTypeError."""
    module = type(df).__module__
    if module.startswith("pyspark.pandas"):
        df = df.to_spark()
        module = type(df).__module__
    if not module.startswith("pyspark.sql") or type(df).__name__ != "DataFrame":
        raise InvalidTypeError(f"df is a {module}.{type(df).__name__}, but a pyspark.sql.DataFrame is needed")
    return df


def _with_parts(name: str, kind: DataType) -> Iterator[tuple[str, DataType]]:
    """A type and those inside it, under the names of columns and fields."""
    from pyspark.sql.types import ArrayType, MapType, StructType

    yield name, kind
    if isinstance(kind, ArrayType):
        yield from _with_parts(name, kind.elementType)
    elif isinstance(kind, MapType):
        yield from _with_parts(name, kind.keyType)
        yield from _with_parts(name, kind.valueType)
    elif isinstance(kind, StructType):
        for field in kind.fields:
            yield from _with_parts(f"{name}.{field.name}", field.dataType)


def _check_columns(df: pyspark.sql.DataFrame) -> None:
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import UserDefinedType, YearMonthIntervalType

    if not df.columns:
        raise InvalidValueError("the frame has no columns, and a Ray Dataset cannot hold rows without columns")
    repeated = sorted({name for name in df.columns if df.columns.count(name) > 1})
    if repeated:
        raise InvalidValueError(f"the frame has several columns named {repeated}; rename them first")
    for name, kind in (part for field in df.schema.fields for part in _with_parts(field.name, field.dataType)):
        if isinstance(kind, UserDefinedType) and not isinstance(kind, VectorUDT):
            raise InvalidTypeError(
                f"column {name!r} has the user-defined type {type(kind).__name__}; select its parts instead"
            )
        if isinstance(kind, YearMonthIntervalType):
            raise InvalidTypeError(
                f"column {name!r} has the type {kind.simpleString()}, which pyarrow cannot read; cast it to interval month and "
                "then to int, which gives the number of months"
            )


def _vector_columns(df: pyspark.sql.DataFrame) -> list[str]:
    from pyspark.ml.linalg import VectorUDT

    return [column.name for column in df.schema.fields if isinstance(column.dataType, VectorUDT)]


def _refuse_inner_vectors(df: pyspark.sql.DataFrame) -> None:
    from pyspark.ml.linalg import VectorUDT

    for field in df.schema.fields:
        if not isinstance(field.dataType, VectorUDT):
            for name, kind in _with_parts(field.name, field.dataType):
                if isinstance(kind, VectorUDT):
                    raise InvalidTypeError(
                        f"column {name!r} has vectors inside, which cannot cross from this session or beside these other "
                        "columns; make arrays of them with pyspark.ml.functions.vector_to_array"
                    )


def _encodes_vectors(context: ExchangeContext | None, df: pyspark.sql.DataFrame) -> bool:
    """Whether the JVM takes the frame's ML vectors as they are, which saves a function call per row."""
    if context is None:
        return False
    jvm: Any = context.spark._jvm
    return jvm.org.apache.spark.sql.raydpml.Exporter.encodesVectors(df._jdf.schema())


def _vectors_as_arrays(df: pyspark.sql.DataFrame, vectors: list[str]) -> pyspark.sql.DataFrame:
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F

    # Under other names for a moment, because two columns may have names that differ in case only.
    numbered = df.toDF(*[f"c{i}" for i in range(len(df.columns))])
    columns = [F.col(name) for name in numbered.columns]
    # vector_to_array refuses nulls; a when without otherwise keeps them.
    return numbered.select(
        *[
            (F.when(column.isNotNull(), vector_to_array(column)) if name in vectors else column).alias(name)
            for name, column in zip(df.columns, columns, strict=True)
        ]
    )


def _context(df: pyspark.sql.DataFrame) -> ExchangeContext | None:
    if is_connect(df):
        return None
    session = df.sparkSession
    if session.sparkContext._jsc is None:
        raise SessionStoppedError(
            "the Spark session of this frame is stopped; start one with init_spark and make the frame anew"
        )
    return contexts.of_session(session)
