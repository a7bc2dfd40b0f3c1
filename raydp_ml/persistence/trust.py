"""Which names in a saved directory may be turned back into classes and functions.

Nothing unpickles. A name is imported only when it lies below one of the modules in ``SAFE_CLASSES`` (and what it names is
defined there too), or when the caller of load named it in ``trusted``.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.persistence.names import import_name, is_below, public_name, qualified_name

__all__ = ["SAFE_CLASSES", "Trust", "TrustEverything"]

# Classes below these modules are loaded without being asked.
SAFE_CLASSES = ("torch.nn", "torch.optim", "keras", "xgboost", "pyspark.ml", "org.apache.spark.ml", "raydp_ml")
# Functions are trusted only in modules where none does more than arithmetic.
_SAFE_FUNCTIONS = (
    "torch.nn.functional",
    "keras.losses",
    "keras.src.losses",
    "keras.metrics",
    "keras.src.metrics",
    "keras.activations",
    "keras.src.activations",
)


class Trust:
    """What may be looked up by a name that stands in a file.

    Parameters
    ----------
    trusted : iterable of str, class or function
        Module names (everything below them is trusted), qualified names, or the classes and functions themselves.
        The word ``"sql"`` trusts SQL steps.

    Examples
    --------
    >>> from raydp_ml.persistence.trust import Trust
    >>> Trust(["collections"]).resolve("collections.OrderedDict").__name__
    'OrderedDict'
    """

    def __init__(self, trusted: Iterable[Any] = ()) -> None:
        if isinstance(trusted, str) or not isinstance(trusted, Iterable):
            raise InvalidTypeError(
                f"trusted must be a list of names, classes or functions, got {trusted!r}; for example "
                f"trusted=[{'mymodule' if not isinstance(trusted, str) else trusted!r}]"
            )
        self._names: list[str] = []
        self._objects: dict[str, Any] = {}
        for entry in trusted:
            if isinstance(entry, str):
                self._names.append(entry)
            elif isinstance(entry, type | FunctionType | BuiltinFunctionType):
                self._objects |= {qualified_name(entry): entry, public_name(entry): entry}
            else:
                raise InvalidTypeError(f"trusted holds names, classes and functions, got {entry!r}")

    @property
    def objects(self) -> dict[str, Any]:
        """The classes and functions that the caller gave themselves, by their own names."""
        return {thing.__name__: thing for thing in self._objects.values()}

    def covers(self, name: str) -> bool:
        """Whether the caller trusts this name explicitly."""
        return name in self._objects or is_below(name, self._names)

    def refuse(self, name: str, what: str = "class") -> InvalidValueError:
        """The error for a name that is not trusted."""
        return InvalidValueError(
            f"the saved directory names the {what} {name!r}, which is outside {', '.join(SAFE_CLASSES)}; loading it "
            f"would run code of that module. If you trust it: load(path, trusted=[{name!r}])"
        )

    def check(self, name: str, what: str = "class") -> None:
        """Raise unless the name is trusted or safe as a class."""
        if not (self.covers(name) or is_below(name, SAFE_CLASSES)):
            raise self.refuse(name, what)

    def resolve(self, name: Any, what: str = "class") -> Any:
        """The class or function of this qualified name, imported only when the rules allow it."""
        if not isinstance(name, str) or "." not in name:
            raise InvalidValueError(f"the saved directory names a {what} {name!r}, which is not a qualified name")
        if name in self._objects:
            return self._objects[name]
        covered = self.covers(name)
        prefixes = _SAFE_FUNCTIONS if what == "function" else SAFE_CLASSES
        if not covered and not is_below(name, prefixes):
            raise self.refuse(name, what)
        try:
            value = import_name(name)
        except (ImportError, AttributeError) as error:
            raise InvalidValueError(
                f"the saved directory needs the {what} {name!r}, which is not here: {error}"
            ) from error
        if not (isinstance(value, type) if what == "class" else callable(value)):
            raise InvalidValueError(f"the saved directory names {name!r} as a {what}, which it is not")
        if not covered and not is_below(getattr(value, "__module__", None) or "", SAFE_CLASSES):
            # What a safe module has imported is not safe itself, raydp_ml.x.os.system for example.
            raise self.refuse(qualified_name(value), what)
        return value


class TrustEverything(Trust):
    """The rules for what this process wrote itself a moment ago, and for pickles, which run code anyway."""

    def covers(self, name: str) -> bool:
        return True
