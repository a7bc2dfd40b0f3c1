"""Saving and loading: the one place that writes and reads saved directories.

A saved directory holds ``metadata.json`` (format version, class, parameters, library versions, fitted state, checksums), the
files that the object writes itself (weights, Spark stages, nested directories) and ``params/`` for weights of models
that are parameters. Loading runs no code from it; :mod:`raydp_ml.persistence.trust` says what is looked up by name.

A class takes part by inheriting :class:`Savable`, which says what it has to do. The object is built as ``cls(**params)``. Inside
``state_from_directory``, :func:`current_trust` gives the rules of the load in progress, and :func:`write_folder` and
:func:`read_folder` nest other objects.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError
from raydp_ml.persistence.attachments import Attachments
from raydp_ml.persistence.bounded_json import check_names
from raydp_ml.persistence.codecs import CannotEncodeError
from raydp_ml.persistence.filesystems import locate
from raydp_ml.persistence.metadata import FORMAT_VERSION, Metadata, warn_about_versions
from raydp_ml.persistence.names import public_name
from raydp_ml.persistence.trust import Trust
from raydp_ml.persistence.values import decode, encode
from raydp_ml.versions import library_versions

__all__ = ["FORMAT_VERSION", "Savable", "current_trust", "load", "overrides", "read_folder", "save", "write_folder"]

SavableT = TypeVar("SavableT", bound="Savable")


@dataclass
class _Loading:
    """What the caller of load gave, for everything nested in the directory."""

    trust: Trust
    model: Any = None
    params: dict[str, Any] = field(default_factory=dict)
    files_checked: bool = False
    """Whether the checksums of the outermost directory, which cover those inside it, were compared."""


_LOADING: ContextVar[_Loading | None] = ContextVar("raydp_ml_loading", default=None)


def current_trust() -> Trust:
    """The rules of the load in progress, or those that trust nothing extra.

    Examples
    --------
    >>> from raydp_ml.persistence.directory import current_trust
    >>> current_trust().covers("mymodule.Net")
    False
    """
    loading = _LOADING.get()
    return loading.trust if loading is not None else Trust()


def overrides() -> dict[str, Any]:
    """Parameters that the caller of load gave back, by name within the object being loaded."""
    loading = _LOADING.get()
    return loading.params if loading is not None else {}


class Savable:
    """Base of what can be saved: adds ``save`` and ``load``, and says what a class has to do for them.

    A class also has ``get_params``, ``set_params`` and ``__sklearn_is_fitted__`` of scikit-learn.
    """

    has_state_unfitted: ClassVar[bool] = False
    """Whether there is state to write before a fit, too."""

    def params_to_save(self) -> dict[str, Any]:
        """Constructor arguments that are written; by default those of ``get_params``."""
        params: dict[str, Any] = self.get_params(deep=False)  # type: ignore[attr-defined]
        return params

    def take_given(self, params: Mapping[str, Any]) -> None:
        """Set the parameters that the caller of ``load`` gave; most of them are already, those that the saved object had.

        Parameters
        ----------
        params : mapping of str to object
            Names and values.

        Raises
        ------
        InvalidValueError
            For a name that this object does not have.
        """
        try:
            self.set_params(**params)  # type: ignore[attr-defined]
        except (ValueError, TypeError) as error:
            known = sorted(self.get_params(deep=True))  # type: ignore[attr-defined]
            unknown = [name for name in params if name not in known]
            if not unknown:
                raise
            near = {alike: None for name in unknown for alike in get_close_matches(str(name), known, n=3)}
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(known)}"
            raise InvalidValueError(
                f"params names {', '.join(map(repr, unknown))}, which the saved {type(self).__name__} does not have; {hint} "
                f"({error})"
            ) from error

    def state_to_directory(self, path: str) -> dict[str, Any]:
        """Write the files of the state, and return the rest of it.

        Parameters
        ----------
        path : str
            An empty directory, or one that holds only ``params``.

        Returns
        -------
        dict
            Values that :func:`raydp_ml.persistence.values.encode` takes, numpy included.
        """
        raise NotImplementedError

    def state_from_directory(self, path: str, state: dict[str, Any], *, model: Any = None) -> None:
        """Take over the state that :meth:`state_to_directory` wrote; called for a new object, when there is state.

        Parameters
        ----------
        path : str
            The directory.
        state : dict
            What :meth:`state_to_directory` returned.
        model : object, optional
            The model that the caller of load gave.
        """
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write this object to a directory.

        Parameters
        ----------
        path : str or path-like
            A local path or a URI that ``pyarrow.fs`` understands, such as ``s3://bucket/model``.
        overwrite : bool, default=False
            Replace what is there.

        See Also
        --------
        raydp_ml.load : Read it back.
        """
        save(self, path, overwrite=overwrite)

    @classmethod
    def load(
        cls: type[SavableT],
        path: str | os.PathLike[str],
        *,
        trusted: Iterable[Any] = (),
        model: Any = None,
        params: dict[str, Any] | None = None,
    ) -> SavableT:
        """Read an object of this class from a directory; see :func:`raydp_ml.load`."""
        loaded = load(path, trusted=trusted, model=model, params=params)
        if not isinstance(loaded, cls):
            raise InvalidTypeError(
                f"{path} holds a {type(loaded).__name__}, not a {cls.__name__}; use {type(loaded).__name__}.load or "
                "raydp_ml.load"
            )
        return loaded


def save(obj: Any, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write an estimator or a pipeline to a directory.

    The directory appears complete or not at all; of several saves to one path at once, the last one to finish stays. On object
    stores, which cannot rename, ``metadata.json`` is written last, and a directory without it cannot be loaded.

    Parameters
    ----------
    obj : estimator or pipeline of raydp_ml
        What to write, fitted or not.
    path : str or path-like
        A local path or a URI that ``pyarrow.fs`` understands, such as ``s3://bucket/model``.
    overwrite : bool, default=False
        Replace what is there; without it a path that holds anything is an error.

    Examples
    --------
    >>> import tempfile, raydp_ml
    >>> from raydp_ml.persistence import save
    >>> folder = tempfile.mkdtemp()
    >>> save(raydp_ml.SparkRayPipeline([("clean", "SELECT * FROM __THIS__")]), folder)
    >>> raydp_ml.load(folder, trusted=["sql"]).steps
    [('clean', 'SELECT * FROM __THIS__')]
    """
    _check_savable(type(obj), public_name(type(obj)))
    locate(path).write(lambda folder: write_folder(obj, folder), overwrite=overwrite)


def load(
    path: str | os.PathLike[str],
    *,
    trusted: Iterable[Any] = (),
    model: Any = None,
    params: dict[str, Any] | None = None,
) -> Any:
    """Read what :meth:`save` of an estimator or a pipeline wrote.

    Parameters
    ----------
    path : str or path-like
        A local path or a URI that ``pyarrow.fs`` understands.
    trusted : iterable of str, class or function
        What else may be imported, beyond torch.nn, torch.optim, keras, xgboost, pyspark.ml and raydp_ml: names of
        modules, classes or functions, or these themselves. ``"sql"`` trusts SQL steps.
    model : object, optional
        The model (or its class or function) of the estimator, when it could not be saved or is not trusted.
    params : dict, optional
        Other parameters to give back, such as functions, by the names that ``set_params`` takes; one that the saved object does
        not have is an error.

    Returns
    -------
    object
        An equal object, fitted when the saved one was.

    Raises
    ------
    InvalidValueError
        When there is no such directory, when it is incomplete or damaged or from a newer version, or when it names
        something that is not trusted.

    Examples
    --------
    >>> import tempfile, raydp_ml
    >>> from raydp_ml.persistence import save
    >>> folder = tempfile.mkdtemp()
    >>> save(raydp_ml.SparkRayPipeline([]), folder)
    >>> type(raydp_ml.load(folder)).__name__
    'SparkRayPipeline'
    """
    given = dict(params or {})

    def read(folder: Path) -> tuple[Any, Metadata]:
        with _loading(_Loading(Trust(trusted), model, given)):
            return read_folder(folder), Metadata.read(folder)

    loaded, metadata = locate(path).read(read)
    warn_about_versions(metadata.versions)
    loaded.take_given(given)
    return loaded


def write_folder(obj: Any, folder: str | os.PathLike[str]) -> None:
    """Write an object into an existing empty local directory, as part of a larger save.

    Parameters
    ----------
    obj : estimator or pipeline of raydp_ml
        What to write.
    folder : str or path-like
        The directory.
    """
    top = Path(folder)
    attachments = Attachments(top)
    has_state = obj.has_state_unfitted or obj.__sklearn_is_fitted__()
    state = obj.state_to_directory(str(top)) if has_state else None
    params = {name: _encode_param(obj, name, value, attachments) for name, value in obj.params_to_save().items()}
    Metadata(public_name(type(obj)), params, encode(state, attachments), library_versions()).write(top)


def read_folder(folder: str | os.PathLike[str], *, prefix: str | None = None) -> Any:
    """Read an object from a local directory, within the load in progress if there is one.

    Parameters
    ----------
    folder : str or path-like
        The directory.
    prefix : str, optional
        Name of the object within the one being loaded: parameters that were given back as ``prefix__name`` are its.

    Returns
    -------
    object
        The object.
    """
    outer = _LOADING.get() or _Loading(Trust())
    given = dict(outer.params)
    if prefix is not None:
        start = prefix + "__"
        given = {name.removeprefix(start): value for name, value in given.items() if name.startswith(start)}
    inner = replace(outer, params=given, files_checked=True)
    with _loading(inner):
        return _read(Path(folder), inner, files_checked=outer.files_checked)


def _read(folder: Path, loading: _Loading, *, files_checked: bool) -> Any:
    metadata = Metadata.read(folder)
    if not files_checked:
        metadata.check_files(folder)
    kind = loading.trust.resolve(metadata.kind)
    _check_savable(kind, metadata.kind)
    attachments = Attachments(folder)
    try:
        params = _decode_params(kind, metadata.params, attachments, loading)
        built = kind(**params)
        state = decode(metadata.state, attachments, loading.trust)
        if state is not None:
            built.state_from_directory(str(folder), state, model=loading.model)
    except (RaydpMLError, ImportError):
        raise
    except Exception as error:  # every library has its own exceptions for files that it cannot read
        raise InvalidValueError(
            f"{folder} holds a {kind.__name__} that cannot be read; its files may be damaged or incomplete "
            f"({type(error).__name__}: {error})"
        ) from error
    return built


def _encode_param(obj: Any, name: str, value: Any, attachments: Attachments) -> Any:
    try:
        return encode(value, attachments)
    except CannotEncodeError as error:
        warnings.warn(
            f"the parameter {name!r} of the {type(obj).__name__} is not written: it is {error}. Whoever loads it gives it back "
            f"with {_way_to_give(name)}",
            stacklevel=2,
        )
        return {"$unsaved": str(error)}


def _way_to_give(name: str) -> str:
    return "load(path, model=...)" if name == "model" else f"load(path, params={{{name!r}: ...}})"


def _decode_params(kind: type, specs: dict[str, Any], attachments: Attachments, loading: _Loading) -> dict[str, Any]:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is not parameter.empty
    }
    check_names(specs, "a parameter")
    params = {}
    for name, spec in specs.items():
        if name == "model" and loading.model is not None:
            params[name] = loading.model
        elif name in loading.params:
            params[name] = loading.params[name]
        elif not (isinstance(spec, dict) and "$unsaved" in spec):
            params[name] = decode(spec, attachments, loading.trust)
        else:
            way = _way_to_give(name)
            what = (
                f"the parameter {name!r} of the saved {kind.__name__} could not be written: it was {spec['$unsaved']}"
            )
            if name not in defaults:
                raise InvalidValueError(f"{what}; give it back with {way}")
            warnings.warn(f"{what}. It now has its default, {defaults[name]!r}; give it back with {way}", stacklevel=2)
            params[name] = defaults[name]
    return params


def _check_savable(kind: Any, name: str) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Savable)):
        raise InvalidTypeError(f"{name} cannot be saved or loaded: only estimators and pipelines of raydp_ml can")


@contextmanager
def _loading(what: _Loading) -> Iterator[_Loading]:
    token = _LOADING.set(what)
    try:
        yield what
    finally:
        _LOADING.reset(token)
