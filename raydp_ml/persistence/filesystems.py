"""Where a saved directory lies: on a local disk, where it appears by a rename, or on any file system of pyarrow.

Several processes may write and read one path at once. A reader that saw parts of two directories, because one took the place of the
other meanwhile, notices that and reads again.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.persistence.swap import swap

__all__ = ["METADATA", "LocalPlace", "Place", "RemotePlace", "filesystem_of", "locate", "write_whole"]

METADATA = "metadata.json"
"""The file that makes a directory a saved one; it is written last."""

ResultT = TypeVar("ResultT")

# How often a path may be replaced while it is read or written before that is an error.
_ATTEMPTS = 100
# How a rename fails where something has the place.
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
# How long to look for a directory that another process is putting in its place.
_GAP_SECONDS = 1.0


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

    def read(self, use: Callable[[Path], ResultT]) -> ResultT:
        """Use the directory as a local one; again, when it was replaced meanwhile.

        Parameters
        ----------
        use : callable
            Gets the local directory and makes something of it.

        Returns
        -------
        object
            What ``use`` returned for one whole directory.
        """
        for _ in range(_ATTEMPTS):
            self._await_directory()
            before = self._version()
            try:
                result = self._read_once(use)
            except Exception:
                if self._is_still(before):
                    raise
            else:
                if self._is_still(before):
                    return result
        raise InvalidValueError(f"{self} was replaced {_ATTEMPTS} times while it was read")

    def _is_still(self, before: Any) -> bool:
        # None twice is not the same directory twice: one may have come and gone in between.
        return before is not None and self._version() == before

    @abstractmethod
    def _await_directory(self) -> None:
        """Raise InvalidValueError when there is no directory and no save that is putting one there."""

    @abstractmethod
    def _read_once(self, use: Callable[[Path], ResultT]) -> ResultT:
        """Use the directory as a local one."""

    @abstractmethod
    def _version(self) -> Any:
        """Something that changes when another directory takes the place of this one; None where there is none just now."""


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
    from pyarrow import fs

    filesystem, inner = filesystem_of(text)
    if isinstance(filesystem, fs.LocalFileSystem):
        return LocalPlace(Path(inner))
    return RemotePlace(filesystem, inner.rstrip("/"), text)


def filesystem_of(path: str | os.PathLike[str], name: str = "path") -> tuple[Any, str]:
    """The file system that a path or a URI is on, and the path there.

    Parameters
    ----------
    path : str or path-like
        A local path or a URI that ``pyarrow.fs`` understands.
    name : str, default="path"
        What an error calls it.

    Raises
    ------
    InvalidValueError
        For URIs that pyarrow cannot open.

    Examples
    --------
    >>> filesystem_of("/models/churn")[1]
    '/models/churn'
    """
    import pyarrow as pa
    from pyarrow import fs

    text = os.fspath(path)
    if "://" not in text:
        return fs.LocalFileSystem(), str(Path(text).expanduser().absolute())
    try:
        filesystem, inner = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidValueError(f"{name} {text!r} is not a URI that pyarrow.fs can open: {error}") from error
    return filesystem, inner


def write_whole(filesystem: Any, target: str, content: Any) -> None:
    """Write a file that appears complete or not at all.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
        Where. Object stores show a file when it is whole; on a local disk a rename does that.
    target : str
        The path there; its folder exists.
    content : bytes-like
        What stands in it.
    """
    from pyarrow import fs

    local = isinstance(filesystem, fs.LocalFileSystem)
    path = f"{target}.{uuid.uuid4().hex[:8]}.part" if local else target
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)
    if local:
        filesystem.move(path, target)


class LocalPlace(Place):
    """A directory on a local disk.

    Parameters
    ----------
    folder : Path
        The absolute path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def write(self, fill: Callable[[Path], None], *, overwrite: bool) -> None:
        target = self.folder
        if not overwrite and _holds_anything(target):
            raise _occupied_error(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        # It is made beside the target, so that the rename at the end stays within one file system and is atomic.
        scratch = self._beside(".saving")
        try:
            scratch.mkdir()
            fill(scratch)
            self._publish(scratch, overwrite)
        finally:
            _remove(scratch)

    def _publish(self, scratch: Path, overwrite: bool) -> None:
        """Put a finished directory in place. Of several that are finished at once, the last one stays."""
        for _ in range(_ATTEMPTS):
            try:
                scratch.rename(self.folder)  # takes the place of nothing, or of an empty directory
                return
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
            if not overwrite and not (self.folder / METADATA).is_file():
                # The path was free when the save began, and what came since is no other save.
                raise _occupied_error(self.folder)
            try:
                if swap(scratch, self.folder) or self._move_away_and_publish(scratch):
                    return
            except FileNotFoundError:
                continue  # Another save has moved the former directory away, and the path may be free now.
        raise InvalidValueError(f"{self.folder} was replaced {_ATTEMPTS} times while this save put itself there")

    def _move_away_and_publish(self, scratch: Path) -> bool:
        """Replace in two steps, where the file system cannot exchange directories; False when another save came first."""
        old = self._beside(".old")
        self.folder.rename(old)
        try:
            scratch.rename(self.folder)
        except OSError as error:
            # Another save was there; it may be on its way out again already.
            if error.errno in _OCCUPIED:
                return False
            old.rename(self.folder)
            raise
        finally:
            _remove(old)
        return True

    def _beside(self, suffix: str) -> Path:
        return self.folder.with_name(f".{self.folder.name}.{uuid.uuid4().hex[:8]}{suffix}")

    def _await_directory(self) -> None:
        end = time.monotonic() + _GAP_SECONDS
        while not self.folder.is_dir():
            # Where directories cannot be exchanged, a save leaves the path empty for a moment. The save may end between the
            # two looks, so that there is a third one.
            saving = list(self.folder.parent.glob(f".{self.folder.name}.*.saving"))
            if (not saving and not self.folder.is_dir()) or time.monotonic() > end:
                raise InvalidValueError(f"there is no directory {self.folder}")
            time.sleep(0.002)

    def _read_once(self, use: Callable[[Path], ResultT]) -> ResultT:
        return use(self.folder)

    def _version(self) -> Any:
        try:
            own = self.folder.stat()
        except OSError:
            return None
        try:
            metadata = (self.folder / METADATA).stat()
        except OSError:
            return own.st_dev, own.st_ino, None
        return own.st_dev, own.st_ino, (metadata.st_ino, metadata.st_mtime_ns, metadata.st_size)


class RemotePlace(Place):
    """A directory on a file system of pyarrow.

    On object stores, which cannot rename, ``metadata.json`` is written last, and a directory without it cannot be loaded. Two
    saves to one path at once can mix there; the checksums then say so when it is loaded.

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

    def __str__(self) -> str:
        return self.uri

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

    def _await_directory(self) -> None:
        from pyarrow import fs

        if self.filesystem.get_file_info(self.folder).type != fs.FileType.Directory:
            raise InvalidValueError(f"there is no directory {self.uri}")

    def _read_once(self, use: Callable[[Path], ResultT]) -> ResultT:
        from pyarrow import fs

        with tempfile.TemporaryDirectory(prefix="raydp_ml_load_") as scratch:
            fs.copy_files(
                self.folder,
                scratch,
                source_filesystem=self.filesystem,
                destination_filesystem=fs.LocalFileSystem(),
            )
            return use(Path(scratch))

    def _version(self) -> Any:
        info = self.filesystem.get_file_info(f"{self.folder}/{METADATA}")
        return info.mtime_ns, info.size

    def _occupied(self) -> bool:
        from pyarrow import fs

        info = self.filesystem.get_file_info(self.folder)
        if info.type != fs.FileType.Directory:
            return info.type == fs.FileType.File
        return bool(self.filesystem.get_file_info(fs.FileSelector(self.folder)))


def _holds_anything(path: Path) -> bool:
    try:
        return any(path.iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True


def _remove(path: Path) -> None:
    """Remove a directory with all that is in it, a file, or a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _occupied_error(path: Any) -> InvalidValueError:
    return InvalidValueError(f"{path} exists and is not empty; save somewhere else or with overwrite=True")
