"""Saving and loading: the one place that writes and reads saved directories.

A saved directory holds ``metadata.json`` (format version, class, parameters, library versions, fitted state), the
files that the object writes itself (weights, Spark stages, nested directories) and ``params/`` for weights of models
that are parameters. Loading runs no code from it; see :mod:`raydp_ml.persistence.values` for what is looked up by name.

The protocol
------------
A class of raydp_ml takes part by inheriting :class:`Savable` and having

``_state_to_dir(path: str) -> dict | None``
    Writes the files of the fitted state below ``path`` (an empty directory, or one that holds only ``params``) and
    returns the rest of the state: values that :func:`raydp_ml.persistence.values.encode` takes, numpy included. None when not
    fitted. It is not called when ``__sklearn_is_fitted__()`` is False, unless the class says
    ``_has_state_unfitted = True``.
``_state_from_dir(path: str, state: dict, *, model=None) -> None``
    Makes the fitted state of a new object from them. ``model`` is what the caller gave to :func:`load`. Called only
    when there is a fitted state.
``_saved_params() -> dict``, optional
    Constructor arguments to write instead of ``get_params(deep=False)``.

The object is built as ``cls(**params)``. Inside ``_state_from_dir``, :func:`current_trust` gives the rules of the load
in progress, :func:`write_folder` and :func:`read_folder` nest other objects, and
:func:`raydp_ml.persistence.models.check_keras_archive` checks a ``.keras`` file before Keras reads it.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError
from raydp_ml.persistence.values import Attachments, CannotEncodeError, Trust, decode, encode, qualified_name
from raydp_ml.versions import library_versions

__all__ = ["FORMAT_VERSION", "Savable", "current_trust", "load", "overrides", "read_folder", "save", "write_folder"]

FORMAT_VERSION = 1
_FILE = "metadata.json"
_FORMAT = "raydp_ml"

SavableT = TypeVar("SavableT", bound="Savable")


@dataclass
class _Loading:
    """What the caller of load gave, for everything nested in the directory."""

    trust: Trust
    model: Any = None
    params: dict[str, Any] = field(default_factory=dict)


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
    """Adds ``save`` and ``load`` to a class that follows the protocol of this module."""

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

    The directory appears complete or not at all. On object stores, which cannot rename, ``metadata.json`` is written
    last, and a directory without it cannot be loaded.

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
    _check_savable(type(obj), qualified_name(type(obj)))
    local, filesystem, remote = _place(path)
    if local is not None:
        _save_local(obj, local, overwrite)
        return
    from pyarrow import fs

    if _occupied(filesystem, remote) and not overwrite:
        raise _occupied_error(path)
    with tempfile.TemporaryDirectory(prefix="raydp_ml_save_") as scratch:
        folder = Path(scratch) / "content"
        folder.mkdir()
        write_folder(obj, folder)
        metadata = Path(scratch) / _FILE
        (folder / _FILE).rename(metadata)
        if _occupied(filesystem, remote):
            filesystem.delete_dir(remote)
        try:
            filesystem.create_dir(remote, recursive=True)
            fs.copy_files(
                str(folder), remote, source_filesystem=fs.LocalFileSystem(), destination_filesystem=filesystem
            )
            fs.copy_files(
                str(metadata),
                f"{remote}/{_FILE}",
                source_filesystem=fs.LocalFileSystem(),
                destination_filesystem=filesystem,
            )
        except BaseException:
            filesystem.delete_dir(remote)
            raise


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
        Other parameters to give back, such as functions, by the names that ``set_params`` takes.

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
    trust = Trust(trusted)
    local, filesystem, remote = _place(path)
    with _local_copy(local, filesystem, remote, path) as folder, _loading(_Loading(trust, model, dict(params or {}))):
        loaded = read_folder(folder)
        _warn_about_versions(_read_metadata(folder)["versions"])
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
    place = Path(folder)
    attachments = Attachments(place)
    params = obj._saved_params() if hasattr(obj, "_saved_params") else obj.get_params(deep=False)
    fitted = not hasattr(obj, "__sklearn_is_fitted__") or obj.__sklearn_is_fitted__()
    has_state = fitted or getattr(obj, "_has_state_unfitted", False)
    state = obj._state_to_dir(str(place)) if has_state else None
    metadata = {
        "format": _FORMAT,
        "format_version": FORMAT_VERSION,
        "class": public_name(type(obj)),
        "versions": library_versions(),
        "params": {name: _encode_param(value, attachments) for name, value in params.items()},
        "state": encode(state, attachments),
    }
    text = json.dumps(metadata, indent=1, allow_nan=False)
    (place / _FILE).write_text(text, encoding="utf-8")


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
    place = Path(folder)
    outer = _LOADING.get() or _Loading(Trust())
    given = dict(outer.params)
    if prefix is not None:
        start = prefix + "__"
        given = {name.removeprefix(start): value for name, value in given.items() if name.startswith(start)}
    with _loading(_Loading(outer.trust, outer.model, given)):
        return _read(place)


def _read(folder: Path) -> Any:
    loading = _LOADING.get() or _Loading(Trust())
    metadata = _read_metadata(folder)
    kind = loading.trust.resolve(metadata["class"])
    _check_savable(kind, metadata["class"])
    attachments = Attachments(folder)
    try:
        params = _decode_params(kind, metadata["params"], attachments, loading)
        built = kind(**params)
        state = decode(metadata["state"], attachments, loading.trust)
        if state is not None:
            built._state_from_dir(str(folder), state, model=loading.model)
    except (RaydpMLError, ImportError):
        raise
    except Exception as error:  # every library has its own exceptions for files that it cannot read
        raise InvalidValueError(
            f"{folder} holds a {kind.__name__} that cannot be read; its files may be damaged or incomplete "
            f"({type(error).__name__}: {error})"
        ) from error
    return built


def public_name(kind: type) -> str:
    """The name by which users know a class, which stays when files of this package move.

    Parameters
    ----------
    kind : type
        A class.

    Returns
    -------
    str
        ``raydp_ml.XGBEstimator`` for what raydp_ml exports, otherwise module and qualified name.

    Examples
    --------
    >>> import raydp_ml
    >>> from raydp_ml.persistence.directory import public_name
    >>> public_name(raydp_ml.SparkRayPipeline)
    'raydp_ml.SparkRayPipeline'
    """
    import raydp_ml

    if kind.__name__ in raydp_ml.__all__ and getattr(raydp_ml, kind.__name__) is kind:
        return f"raydp_ml.{kind.__name__}"
    return qualified_name(kind)


def _encode_param(value: Any, attachments: Attachments) -> Any:
    try:
        return encode(value, attachments)
    except CannotEncodeError as error:
        return {"$unsaved": str(error)}


def _decode_params(kind: type, specs: dict[str, Any], attachments: Attachments, loading: _Loading) -> dict[str, Any]:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is not parameter.empty
    }
    params = {}
    for name, spec in specs.items():
        if name == "model" and loading.model is not None:
            params[name] = loading.model
        elif name in loading.params:
            params[name] = loading.params[name]
        elif not (isinstance(spec, dict) and "$unsaved" in spec):
            params[name] = decode(spec, attachments, loading.trust)
        else:
            way = "load(path, model=...)" if name == "model" else f"load(path, params={{{name!r}: ...}})"
            what = (
                f"the parameter {name!r} of the saved {kind.__name__} could not be written: it was {spec['$unsaved']}"
            )
            if name not in defaults:
                raise InvalidValueError(f"{what}; give it back with {way}")
            warnings.warn(f"{what}. It now has its default, {defaults[name]!r}; give it back with {way}", stacklevel=2)
            params[name] = defaults[name]
    return params


def _read_metadata(folder: Path) -> dict[str, Any]:
    try:
        metadata = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidValueError(
            f"{folder} holds no {_FILE}: it was not saved by raydp_ml, or the save did not finish"
        ) from error
    except ValueError as error:
        raise InvalidValueError(f"{folder / _FILE} is damaged: {error}") from error
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise InvalidValueError(f"{folder} holds a {_FILE} that is not raydp_ml's")
    version = metadata.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        saved_by = (metadata.get("versions") or {}).get("raydp_ml", "a newer version")
        raise InvalidValueError(
            f"{folder} has format version {version}, this raydp_ml reads up to {FORMAT_VERSION}; it was saved by "
            f"raydp_ml {saved_by}: install that or a later one"
        )
    missing = [key for key in ("class", "params", "state", "versions") if key not in metadata]
    if missing:
        raise InvalidValueError(f"{folder / _FILE} is damaged: it has no {', '.join(missing)}")
    return metadata


def _warn_about_versions(saved: dict[str, str]) -> None:
    """Warn when a library has moved to another major version since the save."""
    here = library_versions()
    moved = [
        f"{name} {version} (now {here[name]})"
        for name, version in saved.items()
        if name in here and version.split(".")[0] != here[name].split(".")[0]
    ]
    if moved:
        warnings.warn(
            f"saved with {', '.join(moved)}: other major versions may read it differently", UserWarning, stacklevel=2
        )


def _check_savable(kind: Any, name: str) -> None:
    if not (isinstance(kind, type) and hasattr(kind, "_state_to_dir") and hasattr(kind, "_state_from_dir")):
        raise InvalidTypeError(f"{name} cannot be saved or loaded: only estimators and pipelines of raydp_ml can")


@contextmanager
def _loading(what: _Loading) -> Iterator[None]:
    token = _LOADING.set(what)
    try:
        yield
    finally:
        _LOADING.reset(token)


def _place(path: str | os.PathLike[str]) -> tuple[Path | None, Any, str]:
    """A local path, or a filesystem and the path on it."""
    if not isinstance(path, str | os.PathLike):
        raise InvalidTypeError(f"path must be a string or a path, got {path!r}")
    text = os.fspath(path)
    if not text:
        raise InvalidValueError("path is empty; give a directory or a URI such as s3://bucket/model")
    if "://" not in text:
        return Path(text).expanduser().absolute(), None, ""
    import pyarrow as pa
    from pyarrow import fs

    try:
        filesystem, inner = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidValueError(f"path {text!r} is not a URI that pyarrow.fs can open: {error}") from error
    if isinstance(filesystem, fs.LocalFileSystem):
        return Path(inner), None, ""
    return None, filesystem, inner.rstrip("/")


def _occupied(filesystem: Any, path: str) -> bool:
    from pyarrow import fs

    info = filesystem.get_file_info(path)
    if info.type != fs.FileType.Directory:
        return info.type == fs.FileType.File
    return bool(filesystem.get_file_info(fs.FileSelector(path)))


def _occupied_error(path: Any) -> InvalidValueError:
    return InvalidValueError(f"{path} exists and is not empty; save somewhere else or with overwrite=True")


def _save_local(obj: Any, target: Path, overwrite: bool) -> None:
    occupied = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if occupied and not overwrite:
        raise _occupied_error(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the rename at the end stays within one filesystem and is atomic.
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.saving")
    old = scratch.with_suffix(".old")
    try:
        scratch.mkdir()
        write_folder(obj, scratch)
        if occupied:
            target.rename(old)
        try:
            scratch.rename(target)
        except BaseException:
            if occupied:
                old.rename(target)
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)


@contextmanager
def _local_copy(local: Path | None, filesystem: Any, remote: str, path: Any) -> Iterator[Path]:
    if local is not None:
        if not local.is_dir():
            raise InvalidValueError(f"there is no directory {path}")
        yield local
        return
    from pyarrow import fs

    if filesystem.get_file_info(remote).type != fs.FileType.Directory:
        raise InvalidValueError(f"there is no directory {path}")
    with tempfile.TemporaryDirectory(prefix="raydp_ml_load_") as scratch:
        fs.copy_files(remote, scratch, source_filesystem=filesystem, destination_filesystem=fs.LocalFileSystem())
        yield Path(scratch)
