"""The files of a saved directory and their checksums, compared before a library reads any of them.

Libraries trust their own files: xgboost can crash the process on a model file in which one bit changed, and others load
it and predict other values.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raydp_ml.errors import InvalidValueError

__all__ = ["check_files", "describe_files", "list_files"]


def list_files(folder: Path) -> dict[str, Path]:
    """The regular files below a directory.

    Parameters
    ----------
    folder : Path
        The directory.

    Returns
    -------
    dict of str to Path
        Paths by the name within the directory, with ``/`` between its parts.

    Raises
    ------
    InvalidValueError
        When there is a pipe, a socket, a device or a link that leads out of the directory: reading it could wait for ever, or read
        what does not belong to the directory.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from raydp_ml.persistence.checksums import list_files
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "params").mkdir()
    >>> _ = (folder / "params" / "0.safetensors").write_bytes(b"weights")
    >>> list(list_files(folder))
    ['params/0.safetensors']
    """
    return dict(sorted(_files_below(folder, folder.resolve(), "")))


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of every file below a directory.

    Parameters
    ----------
    folder : Path
        The directory.

    Returns
    -------
    dict of str to dict
        What :func:`check_files` takes.
    """
    return {name: {"size": path.stat().st_size, "sha256": _digest(path)} for name, path in list_files(folder).items()}


def check_files(folder: Path, described: Mapping[str, Mapping[str, Any]], *, apart: frozenset[str]) -> None:
    """Compare the files below a directory with what was written.

    Parameters
    ----------
    folder : Path
        The directory.
    described : mapping
        What :func:`describe_files` returned.
    apart : frozenset of str
        Names of files that are not described and may be there.

    Raises
    ------
    InvalidValueError
        Names the files that are missing, are too many, or have changed.
    """
    here = list_files(folder)
    missing = sorted(described.keys() - here.keys())
    if missing:
        raise InvalidValueError(f"{folder} is incomplete: {_names(missing)} is missing; save it or copy it again")
    extra = sorted(here.keys() - described.keys() - apart)
    if extra:
        raise InvalidValueError(
            f"{folder} holds {_names(extra)}, which does not belong to what was saved; move it somewhere else"
        )
    for name, wanted in described.items():
        size = here[name].stat().st_size
        if size != wanted.get("size"):
            raise InvalidValueError(
                f"{folder} is damaged: {name} has {size} bytes, {wanted.get('size')} were written; save it or copy it again"
            )
        if _digest(here[name]) != wanted.get("sha256"):
            raise InvalidValueError(
                f"{folder} is damaged: {name} is not what was written (its SHA-256 differs); save it or copy it again"
            )


def _files_below(folder: Path, top: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name, path = prefix + entry.name, Path(entry.path)
            if entry.is_symlink() and not path.resolve().is_relative_to(top):
                raise InvalidValueError(f"{top} holds {name!r}, a link that leads out of the directory; it is not read")
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                raise InvalidValueError(f"{top} holds {name!r}, which cannot be read: {error}") from error
            if stat.S_ISREG(mode):
                yield name, path
            elif not stat.S_ISDIR(mode):
                raise InvalidValueError(f"{top} holds {name!r}, which is no regular file; it is not read")
            elif not entry.is_symlink():
                # What a link within the directory leads to is found in its own place.
                yield from _files_below(path, top, name + "/")


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} others"
