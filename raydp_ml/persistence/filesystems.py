"""Where a saved directory lies: on a local disk, where it appears by a rename, or on any file system of pyarrow."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = ["METADATA", "LocalPlace", "Place", "RemotePlace", "locate"]

METADATA = "metadata.json"
"""The file that makes a directory a saved one; it is written last."""


class Place(ABC):
    """Where a directory is saved to and loaded from."""

    @abstractmethod
    def write(self, fill: Callable[[Path], None], *, overwrite: bool) -> None:
        """Make the directory appear, complete or not at all.

        Parameters
        ----------
        fill : callable
            Writes the files into an empty local directory.
        overwrite : bool
            Replace what is there; otherwise that is an error.
        """

    @abstractmethod
    def open(self) -> Any:
        """A context manager that gives the directory as a local one."""


def locate(path: str | os.PathLike[str]) -> Place:
    """The place that a path or a URI names.

    Parameters
    ----------
    path : str or path-like
        A local path or a URI that ``pyarrow.fs`` understands.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        For what is no path, and for URIs that pyarrow cannot open.

    Examples
    --------
    >>> from raydp_ml.persistence.filesystems import locate
    >>> locate("/models/churn").folder.name
    'churn'
    """
    if not isinstance(path, str | os.PathLike):
        raise InvalidTypeError(f"path must be a string or a path, got {path!r}")
    text = os.fspath(path)
    if not text:
        raise InvalidValueError("path is empty; give a directory or a URI such as s3://bucket/model")
    if "://" not in text:
        return LocalPlace(Path(text).expanduser().absolute())
    import pyarrow as pa
    from pyarrow import fs

    try:
        filesystem, inner = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidValueError(f"path {text!r} is not a URI that pyarrow.fs can open: {error}") from error
    if isinstance(filesystem, fs.LocalFileSystem):
        return LocalPlace(Path(inner))
    return RemotePlace(filesystem, inner.rstrip("/"), text)


class LocalPlace(Place):
    """A directory on a local disk.

    Parameters
    ----------
    folder : Path
        The absolute path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, fill: Callable[[Path], None], *, overwrite: bool) -> None:
        target = self.folder
        occupied = target.exists() and (not target.is_dir() or any(target.iterdir()))
        if occupied and not overwrite:
            raise _occupied_error(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        # It is made beside the target, so that the rename at the end stays within one file system and is atomic.
        scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.saving")
        old = scratch.with_suffix(".old")
        try:
            scratch.mkdir()
            fill(scratch)
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
    def open(self) -> Iterator[Path]:
        if not self.folder.is_dir():
            raise InvalidValueError(f"there is no directory {self.folder}")
        yield self.folder


class RemotePlace(Place):
    """A directory on a file system of pyarrow.

    On object stores, which cannot rename, ``metadata.json`` is written last, and a directory without it cannot be loaded.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
        The file system.
    folder : str
        The path on it.
    uri : str
        How the user names it.
    """

    def __init__(self, filesystem: Any, folder: str, uri: str) -> None:
        self.filesystem = filesystem
        self.folder = folder
        self.uri = uri

    def write(self, fill: Callable[[Path], None], *, overwrite: bool) -> None:
        from pyarrow import fs

        if self._occupied() and not overwrite:
            raise _occupied_error(self.uri)
        with tempfile.TemporaryDirectory(prefix="raydp_ml_save_") as scratch:
            content = Path(scratch) / "content"
            content.mkdir()
            fill(content)
            metadata = Path(scratch) / METADATA
            (content / METADATA).rename(metadata)
            if self._occupied():
                self.filesystem.delete_dir(self.folder)
            here = fs.LocalFileSystem()
            try:
                self.filesystem.create_dir(self.folder, recursive=True)
                for source, target in ((content, self.folder), (metadata, f"{self.folder}/{METADATA}")):
                    fs.copy_files(str(source), target, source_filesystem=here, destination_filesystem=self.filesystem)
            except BaseException:
                self.filesystem.delete_dir(self.folder)
                raise

    @contextmanager
    def open(self) -> Iterator[Path]:
        from pyarrow import fs

        if self.filesystem.get_file_info(self.folder).type != fs.FileType.Directory:
            raise InvalidValueError(f"there is no directory {self.uri}")
        with tempfile.TemporaryDirectory(prefix="raydp_ml_load_") as scratch:
            fs.copy_files(
                self.folder,
                scratch,
                source_filesystem=self.filesystem,
                destination_filesystem=fs.LocalFileSystem(),
            )
            yield Path(scratch)

    def _occupied(self) -> bool:
        from pyarrow import fs

        info = self.filesystem.get_file_info(self.folder)
        if info.type != fs.FileType.Directory:
            return info.type == fs.FileType.File
        return bool(self.filesystem.get_file_info(fs.FileSelector(self.folder)))


def _occupied_error(path: Any) -> InvalidValueError:
    return InvalidValueError(f"{path} exists and is not empty; save somewhere else or with overwrite=True")
