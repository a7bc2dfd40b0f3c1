"""Which columns are features: the one place that decides."""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.categories import Nominal

if TYPE_CHECKING:
    from raydp_ml.frames.frame import Frame

__all__ = ["Column", "Feature", "Selection", "column_names", "column_slices", "names_of", "require_column", "resolve"]

_log = logging.getLogger("raydp_ml.frames")

# Columns of these names are never chosen as features unless they are named.
_NEVER_CHOSEN = ("fold", "id")
_OWN_PREFIX = "__raydp"


@dataclass(frozen=True)
class Feature:
    """A feature column: its name, how many numbers each of its cells holds, and the type in which the model takes them.

    ``dtype`` is ``"float32"``, ``"float64"`` or ``"int64"``; ``elements`` are the names of the numbers in a vector, where all have
    names, ``nominal`` says which numbers the model takes as codes of categories, and ``whole`` whether the column is one of
    integers, whatever the model takes them as: that is the frame's matter, and features that differ in it alone are the same.
    """

    name: str
    width: int = 1
    dtype: str = "float32"
    elements: tuple[str, ...] = ()
    nominal: tuple[Nominal, ...] = ()
    whole: bool = field(default=False, compare=False)

    def to_plain(self) -> list[Any]:
        """All but the type as values for ``metadata.json``: name and width, and what there is besides."""
        nominal = [[each.place, list(each.values)] for each in self.nominal]
        beside = [list(self.elements), nominal] if nominal else [list(self.elements)] if self.elements else []
        return [self.name, self.width, *beside]

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> Feature:
        """What :meth:`to_plain` described.

        Examples
        --------
        >>> Feature.from_plain(Feature("v", 2, elements=("a", "b")).to_plain())
        Feature(name='v', width=2, dtype='float32', elements=('a', 'b'), nominal=(), whole=False)
        """
        name, width, *beside = plain
        elements = tuple(beside[0]) if beside else ()
        nominal = tuple(Nominal(tuple(values), place) for place, values in beside[1]) if len(beside) > 1 else ()
        return cls(name, width, elements=elements, nominal=nominal)


def column_names(features: Sequence[Feature]) -> list[str]:
    """Names of the columns of the matrix; the elements of a vector have those of Spark ML's metadata, or are counted.

    Examples
    --------
    >>> column_names((Feature("a"), Feature("v", 2)))
    ['a', 'v_0', 'v_1']
    >>> column_names((Feature("v", 2, elements=("age", "city_Oslo")),))
    ['age', 'city_Oslo']
    """
    names = []
    for feature in features:
        counted = [f"{feature.name}_{place}" for place in range(feature.width)] if feature.width > 1 else [feature.name]
        names += list(feature.elements) or counted
    return names


def column_slices(features: Sequence[Feature]) -> Iterator[tuple[str, slice]]:
    """Name of each feature column and the matrix columns that it takes.

    Examples
    --------
    >>> list(column_slices((Feature("a"), Feature("v", 2))))
    [('a', slice(0, 1, None)), ('v', slice(1, 3, None))]
    """
    start = 0
    for feature in features:
        yield feature.name, slice(start, start + feature.width)
        start += feature.width


@dataclass(frozen=True)
class Column:
    """A column as a frame describes it.

    ``kind`` is ``"number"``, ``"boolean"``, ``"vector"``, ``"category"`` or ``"other"``; ``type`` the frame's own word for it;
    ``width`` the length of a vector, when the schema tells it; ``parts`` the columns that a vector was assembled from, when it
    tells; ``sparse`` whether its cells may be sparse vectors; ``elements`` the names of a vector's numbers, where all have names;
    ``nominal`` the categories that the schema gives the numbers of a column of numbers or vectors; ``whole`` whether its numbers
    are integers or booleans.
    """

    name: str
    kind: str
    type: str
    width: int | None = None
    parts: tuple[str, ...] = ()
    sparse: bool = False
    elements: tuple[str, ...] = ()
    nominal: tuple[Nominal, ...] = ()
    whole: bool = False

    def is_usable(self, categorical: bool) -> bool:
        """Whether it can be a feature, ``categorical`` saying whether categories can."""
        return self.kind != "other" and (categorical or self.kind != "category")


@dataclass(frozen=True)
class Selection:
    """The columns that a fit or a prediction reads; ``sparse`` says whether the features are read in the sparse layout."""

    features: tuple[Feature, ...]
    label: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    sparse: bool = False

    @property
    def width(self) -> int:
        """How many numbers a row of features has."""
        return sum(feature.width for feature in self.features)

    @property
    def columns(self) -> list[str]:
        """All columns that are read, each once."""
        names = [feature.name for feature in self.features]
        return list(dict.fromkeys([*names, *self.label, *self.roles.values()]))


def names_of(value: Any, argument: str) -> tuple[str, ...]:
    """Column names given as one string, a list of them, or None.

    Examples
    --------
    >>> names_of("late", "label_column"), names_of(None, "label_column")
    (('late',), ())
    """
    if value is None:
        return ()
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) and hasattr(names, "tolist"):
        names = names.tolist()
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InvalidTypeError(f"{argument}={value!r} must be a column name or a list of column names")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidValueError(f"{argument} names {repeated} more than once")
    return tuple(names)


def resolve(
    frame: Frame,
    *,
    feature_columns: Any = None,
    label: tuple[str, ...] = (),
    roles: Mapping[str, str] | None = None,
    never: Sequence[str] = (),
    vector_column: str | None = None,
    categorical: bool = False,
) -> Selection:
    """Decide which columns are features, and check all columns that are named.

    Parameters
    ----------
    frame : Frame
        The frame, which describes its columns.
    feature_columns : str or list of str, optional
        The features as the user named them. None: ``vector_column`` alone when it is given, otherwise all numeric, boolean and
        vector columns that have no other role. Left out then, and said in the log: columns that a chosen vector was
        assembled from, and columns named ``id`` or ``fold``. A warning lists those that are not numeric.
    label : tuple of str
        Label columns.
    roles : dict, optional
        Column by role: weight, qid, base_margin, validation.
    never : sequence of str
        Further columns that are not to be chosen, such as earlier predictions.
    vector_column : str, optional
        The vector that the last step of a pipeline made.
    categorical : bool, default=False
        Whether columns of categories can be features, and numbers with nominal attributes are categories.

    Returns
    -------
    Selection
        The columns, with the width of each feature.
    """
    roles = dict(roles or {})
    columns = {column.name: column for column in frame.columns()}
    for argument, name in [*(("label_column", name) for name in label), *roles.items()]:
        argument = argument if argument.startswith("label") else f"{argument}_column"
        argument = "validation" if argument == "validation_column" else argument
        require_column(columns, name, argument, frame.kind)
    for role, name in roles.items():
        if columns[name].kind not in (
            "number",
            "boolean",
            *(["other", "category"] if role == "qid" else []),
        ):  # names of queries are strings
            raise InvalidTypeError(f"the {role} column {name!r} has the type {columns[name].type}; it must be numeric")
    taken = {*label, *roles.values()}
    chosen = names_of(feature_columns, "feature_columns")
    if feature_columns is not None and not chosen:
        raise InvalidValueError("feature_columns is empty; name at least one column, or give None for all numeric ones")
    if not chosen:
        chosen = _choose(columns, taken | set(never), vector_column, frame.kind, categorical)
    for name in chosen:
        require_column(columns, name, "feature_columns", frame.kind)
        if not columns[name].is_usable(categorical):
            hint = "" if columns[name].kind == "other" else "; an XGBEstimator takes it with enable_categorical=True"
            raise InvalidTypeError(
                f"the feature column {name!r} has the type {columns[name].type}, which is not numeric; index or encode it "
                f"first (with Spark's StringIndexer, say), or leave it out of feature_columns{hint}"
            )
        if name in taken:
            raise InvalidValueError(f"column {name!r} is named as a feature and as label, weight or another role")
    nominal = _nominal(frame, [columns[name] for name in chosen]) if categorical else {}
    features = tuple(
        Feature(
            name,
            _width(frame, columns[name]),
            elements=columns[name].elements,
            nominal=tuple(nominal.get(name, ())),
            whole=columns[name].whole,
        )
        for name in chosen
    )
    return Selection(features, label, roles)


def require_column(columns: Mapping[str, Column], name: str, argument: str, kind: str) -> None:
    """Raise when a frame lacks a column, with names that look alike."""
    if name in columns:
        return
    lowered = {known.lower(): known for known in columns}
    alike = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=3)]
    hint = f"; did you mean {', '.join(map(repr, alike))}?" if alike else ""
    shown = ", ".join(list(columns)[:20]) + (", ..." if len(columns) > 20 else "")
    raise InvalidValueError(f"{argument}: the {kind} has no column {name!r}{hint} (its columns: {shown})")


def _nominal(frame: Frame, columns: Sequence[Column]) -> dict[str, tuple[Nominal, ...]]:
    """What the schema says of numbers, and the categories of the columns that hold them, which are looked up together."""
    asked = [column.name for column in columns if column.kind == "category"]
    found = {name: (Nominal(values),) for name, values in (frame.categories(asked) if asked else {}).items()}
    return {column.name: column.nominal for column in columns if column.nominal} | found


def _choose(
    columns: Mapping[str, Column], taken: set[str], vector_column: str | None, kind: str, categorical: bool
) -> tuple[str, ...]:
    if vector_column is not None:
        require_column(columns, vector_column, "the pipeline's vector column", kind)
        return (vector_column,)
    usable = [column for column in columns.values() if column.is_usable(categorical) and column.name not in taken]
    inside = {part for column in usable if column.kind == "vector" for part in column.parts}
    left_out = [
        column.name
        for column in usable
        if column.name in inside
        or column.name.lower() in _NEVER_CHOSEN
        or (column.name.startswith(_OWN_PREFIX) and column.kind != "vector")
    ]
    chosen = tuple(column.name for column in usable if column.name not in left_out)
    if not chosen:
        raise InvalidValueError(
            f"the {kind} has no numeric or vector column that could be a feature (its columns: {', '.join(columns)}); name "
            "feature_columns"
        )
    others = [
        column.name for column in columns.values() if not column.is_usable(categorical) and column.name not in taken
    ]
    if others:
        warnings.warn(
            f"these columns of the {kind} are no features, because they are not numeric: {', '.join(others)}; index or encode "
            "them, or name feature_columns",
            stacklevel=2,
        )
    _log.info("features: %s%s", ", ".join(chosen), f" (left out: {', '.join(left_out)})" if left_out else "")
    return chosen


def _width(frame: Frame, column: Column) -> int:
    if column.kind != "vector":
        return 1
    return column.width if column.width is not None else frame.vector_width(column.name)
