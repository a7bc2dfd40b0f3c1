"""Parameter values and fitted state as JSON, and the rules for turning names in a file back into classes.

Plain JSON values are written as they are; everything else becomes an object with one key that starts with ``$``:

==============  ==========================================================================================
``$tuple``      a list of values; likewise ``$set``
``$dict``       a list of ``[key, value]``, for keys that are not plain strings
``$float``      ``"nan"``, ``"inf"`` or ``"-inf"``
``$bytes``      base64
``$numpy``      dtype, shape (none for a scalar) and data of a numpy value
``$class``      the qualified name of a class; likewise ``$function``
``$object``     class and ``get_params()`` or constructor arguments of a small configuration object
``$unsaved``    says what the value was; it could not be written
other           see :mod:`raydp_ml.persistence.models`: torch modules, optimizers and dtypes, Keras objects
==============  ==========================================================================================

Nothing here unpickles. A name is imported only when it lies below one of the modules in ``SAFE_CLASSES`` (and what it
names is defined there too), or when the caller of load named it in ``trusted``.
"""

from __future__ import annotations

import base64
import dataclasses
import inspect
import math
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = [
    "SAFE_CLASSES",
    "Attachments",
    "CannotEncodeError",
    "Trust",
    "TrustEverything",
    "decode",
    "encode",
    "qualified_name",
]

# Classes below these modules are loaded without being asked.
SAFE_CLASSES = ("torch.nn", "torch.optim", "keras", "xgboost", "pyspark.ml", "org.apache.spark.ml", "raydp_ml")
# Functions only where none of them does more than arithmetic.
_SAFE_FUNCTIONS = (
    "torch.nn.functional",
    "keras.losses",
    "keras.src.losses",
    "keras.metrics",
    "keras.src.metrics",
    "keras.activations",
    "keras.src.activations",
)
# Configuration objects that may be rebuilt from their arguments; they do nothing until something is trained with them.
_SAFE_OBJECTS = ("xgboost.callback.EarlyStopping", "xgboost.callback.EvaluationMonitor")
_SAFE_RAY_CONFIGS = ("ScalingConfig", "RunConfig", "CheckpointConfig", "FailureConfig")


class CannotEncodeError(InvalidTypeError):
    """A value has no safe written form; the message says what it is."""


class Attachments:
    """Files beside ``metadata.json`` that hold the large parts of parameter values, weights for example.

    Parameters
    ----------
    folder : Path
        The saved directory; the files lie in its subfolder ``params``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._count = 0

    def new(self, suffix: str) -> tuple[str, Path]:
        """Name (to write down) and path of a new file."""
        (self.folder / "params").mkdir(exist_ok=True)
        name = f"params/{self._count}{suffix}"
        self._count += 1
        return name, self.folder / name

    def find(self, name: str) -> Path:
        """Path of a file named in the metadata, which must lie inside the directory."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            raise InvalidValueError(f"the saved directory names a file {name!r} that it does not hold")
        return path


def qualified_name(thing: Any) -> str:
    """Module and qualified name of a class or function.

    Examples
    --------
    >>> from raydp_ml.persistence.values import qualified_name
    >>> qualified_name(dict)
    'builtins.dict'
    """
    return f"{thing.__module__}.{thing.__qualname__}"


def _below(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def _import_name(name: str) -> Any:
    """The object with this qualified name: the longest importable module part, then attributes."""
    parts = name.split(".")
    for size in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:size])
        try:
            value: Any = sys.modules.get(module_name) or import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and _below(module_name, [error.name]):
                continue  # this part is a class or does not exist; try a shorter module name
            raise
        for part in parts[size:]:
            value = getattr(value, part)
        return value
    raise ModuleNotFoundError(f"no module holds {name!r}", name=name)


class Trust:
    """What may be looked up by a name that stands in a file.

    Parameters
    ----------
    trusted : iterable of str, class or function
        Module names (everything below them is trusted), qualified names, or the classes and functions themselves.
        The word ``"sql"`` trusts SQL steps.

    Examples
    --------
    >>> from raydp_ml.persistence.values import Trust
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
                self._objects[qualified_name(entry)] = entry
            else:
                raise InvalidTypeError(f"trusted holds names, classes and functions, got {entry!r}")

    @property
    def objects(self) -> dict[str, Any]:
        """The classes and functions that the caller gave themselves, by their own names."""
        return {thing.__name__: thing for thing in self._objects.values()}

    def covers(self, name: str) -> bool:
        """Whether the caller trusts this name explicitly."""
        return name in self._objects or _below(name, self._names)

    def refuse(self, name: str, what: str = "class") -> InvalidValueError:
        """The error for a name that is not trusted."""
        return InvalidValueError(
            f"the saved directory names the {what} {name!r}, which is outside {', '.join(SAFE_CLASSES)}; loading it "
            f"would run code of that module. If you trust it: load(path, trusted=[{name!r}])"
        )

    def check(self, name: str, what: str = "class") -> None:
        """Raise unless the name is trusted or safe as a class."""
        if not (self.covers(name) or _below(name, SAFE_CLASSES)):
            raise self.refuse(name, what)

    def resolve(self, name: Any, what: str = "class") -> Any:
        """The class or function of this qualified name, imported only when the rules allow it."""
        if not isinstance(name, str) or "." not in name:
            raise InvalidValueError(f"the saved directory names a {what} {name!r}, which is not a qualified name")
        if name in self._objects:
            return self._objects[name]
        covered = self.covers(name)
        prefixes = _SAFE_FUNCTIONS if what == "function" else SAFE_CLASSES
        if not covered and not _below(name, prefixes):
            raise self.refuse(name, what)
        try:
            value = _import_name(name)
        except (ImportError, AttributeError) as error:
            raise InvalidValueError(
                f"the saved directory needs the {what} {name!r}, which is not here: {error}"
            ) from error
        if not (isinstance(value, type) if what == "class" else callable(value)):
            raise InvalidValueError(f"the saved directory names {name!r} as a {what}, which it is not")
        if not covered and not _below(getattr(value, "__module__", None) or "", SAFE_CLASSES):
            # An import found in a safe module is not safe itself: raydp_ml.x.os.system, say.
            raise self.refuse(qualified_name(value), what)
        return value


class TrustEverything(Trust):
    """For what this process wrote itself a moment ago, and for pickles, which run code anyway."""

    def covers(self, name: str) -> bool:
        return True


def _refers_back(value: Any) -> bool:
    """Whether the qualified name of a class or function leads back to it in another process."""
    if value.__module__ is None or "<" in value.__qualname__:
        return False
    try:
        return _import_name(qualified_name(value)) is value
    except (ImportError, AttributeError):
        return False


def _encode_numpy(value: Any, attachments: Attachments) -> dict[str, Any]:
    array = np.asarray(value)
    kind = array.dtype.kind
    if kind in "mM":
        data = array.astype("int64").ravel().tolist()
    elif kind in "biufUO":
        data = [encode(item, attachments) for item in array.ravel().tolist()]
    else:
        raise CannotEncodeError(f"a numpy value of dtype {array.dtype}")
    shape = list(array.shape) if isinstance(value, np.ndarray) else None
    return {"$numpy": {"dtype": array.dtype.str, "shape": shape, "data": data}}


def _decode_numpy(spec: dict[str, Any], attachments: Attachments, trust: Trust) -> Any:
    dtype = np.dtype(spec["dtype"])
    items = [decode(item, attachments, trust) for item in spec["data"]]
    if dtype.kind == "O":
        array = np.empty(len(items), dtype=object)
        array[:] = items
    elif dtype.kind in "mM":
        array = np.array(items, dtype="int64").astype(dtype)
    else:
        array = np.array(items, dtype=dtype)
    return array[0] if spec["shape"] is None else array.reshape(spec["shape"])


def _plain_arguments(value: Any) -> dict[str, Any] | None:
    """Constructor arguments of a small object that keeps them as attributes, or None when a copy would differ."""
    try:
        parameters = inspect.signature(type(value).__init__).parameters
    except (TypeError, ValueError):
        return None
    names = list(parameters)[1:]
    flexible = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if type(value).__init__ is object.__init__:
        names = []
    elif any(parameters[name].kind in flexible for name in names):
        return None
    state = getattr(value, "__dict__", None)
    if state is None:
        return None
    arguments = {}
    for name in names:
        kept = next((key for key in (name, "_" + name) if key in state), None)
        if kept is not None:
            arguments[name] = state[kept]
        elif parameters[name].default is inspect.Parameter.empty:
            return None
    try:
        again = type(value)(**arguments)
        same = bool(vars(again) == state)
    except Exception:  # any constructor may run here: one that fails or cannot be compared is no plain object
        return None
    return arguments if same else None


def _encode_object(value: Any, attachments: Attachments) -> dict[str, Any]:
    kind = type(value)
    name = qualified_name(kind)
    if dataclasses.is_dataclass(value) and _is_ray_config(name):
        # Only what differs from the defaults: later versions may drop or rename the others.
        defaults = kind()
        fields = {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            if field.init and getattr(value, field.name) != getattr(defaults, field.name)
        }
    elif callable(getattr(value, "get_params", None)) and _refers_back(kind):
        fields = value.get_params(deep=False)
    else:
        found = _plain_arguments(value) if _refers_back(kind) else None
        if found is None:
            raise CannotEncodeError(f"an instance of {name}")
        fields = found
    return {"$object": {"class": name, "params": {key: encode(item, attachments) for key, item in fields.items()}}}


def _is_ray_config(name: str) -> bool:
    return name.startswith("ray.") and name.rpartition(".")[2] in _SAFE_RAY_CONFIGS


def _decode_object(spec: dict[str, Any], attachments: Attachments, trust: Trust) -> Any:
    name = spec["class"]
    if trust.covers(name) or name in _SAFE_OBJECTS:
        kind = trust.resolve(name)
    elif _is_ray_config(name):
        kind = Trust([name]).resolve(name)
        if not dataclasses.is_dataclass(kind):
            raise trust.refuse(name)
    else:
        raise trust.refuse(name)
    return kind(**{key: decode(item, attachments, trust) for key, item in spec["params"].items()})


def encode(value: Any, attachments: Attachments) -> Any:
    """A JSON-able form of a parameter value or a piece of fitted state.

    Parameters
    ----------
    value : object
        What to write.
    attachments : Attachments
        Where weights that belong to the value are written.

    Returns
    -------
    object
        Something that ``json.dumps`` takes.

    Raises
    ------
    CannotEncodeError
        For values without a safe written form, such as a lambda.

    Examples
    --------
    >>> from pathlib import Path
    >>> from raydp_ml.persistence.values import Attachments, encode
    >>> encode((1, 2), Attachments(Path("unused")))
    {'$tuple': [1, 2]}
    """
    if value is None or isinstance(value, bool) or type(value) in (int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, np.generic | np.ndarray):
        return _encode_numpy(value, attachments)
    if type(value) is list:
        return [encode(item, attachments) for item in value]
    if type(value) is tuple:
        return {"$tuple": [encode(item, attachments) for item in value]}
    if type(value) in (set, frozenset):
        return {"$set": sorted((encode(item, attachments) for item in value), key=repr)}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: encode(item, attachments) for key, item in value.items()}
        return {"$dict": [[encode(key, attachments), encode(item, attachments)] for key, item in value.items()]}
    if type(value) is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        what = "class" if isinstance(value, type) else "function"
        if not _refers_back(value):
            raise CannotEncodeError(f"the {what} {qualified_name(value)}, which another process cannot import")
        return {f"${what}": qualified_name(value)}

    from raydp_ml.persistence import models

    spec = models.encode_model(value, attachments)
    return spec if spec is not None else _encode_object(value, attachments)


def decode(spec: Any, attachments: Attachments, trust: Trust) -> Any:
    """The value that :func:`encode` wrote.

    Parameters
    ----------
    spec : object
        What ``json.loads`` gave.
    attachments : Attachments
        The saved directory's files.
    trust : Trust
        Which names may be imported.

    Returns
    -------
    object
        The value.

    Examples
    --------
    >>> from pathlib import Path
    >>> from raydp_ml.persistence.values import Attachments, Trust, decode
    >>> decode({"$tuple": [1, 2]}, Attachments(Path("unused")), Trust())
    (1, 2)
    """
    if isinstance(spec, list):
        return [decode(item, attachments, trust) for item in spec]
    if not isinstance(spec, dict):
        return spec
    if len(spec) != 1 or not next(iter(spec)).startswith("$"):
        return {key: decode(item, attachments, trust) for key, item in spec.items()}
    (tag, body), *_ = spec.items()
    if tag == "$tuple":
        return tuple(decode(item, attachments, trust) for item in body)
    if tag == "$set":
        return {decode(item, attachments, trust) for item in body}
    if tag == "$dict":
        return {decode(key, attachments, trust): decode(item, attachments, trust) for key, item in body}
    if tag == "$float":
        return float(body)
    if tag == "$bytes":
        return base64.b64decode(body)
    if tag == "$numpy":
        return _decode_numpy(body, attachments, trust)
    if tag in ("$class", "$function"):
        return trust.resolve(body, tag[1:])
    if tag == "$object":
        return _decode_object(body, attachments, trust)

    from raydp_ml.persistence import models

    return models.decode_model(tag, body, attachments, trust)
