"""Two paths exchanged in one step, which Python's own library does not offer."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["swap"]

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # fcntl.h: paths are relative to the current folder
# What file systems answer that cannot do it (NFS), and systems whose C library or kernel does not know the call.
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV)


def swap(one: Path, other: Path) -> bool:
    """Let two paths take each other's place, so that neither is missing at any moment.

    Parameters
    ----------
    one, other : Path
        Files or directories in one file system.

    Returns
    -------
    bool
        False where the operating system or the file system cannot do that.

    Raises
    ------
    OSError
        When it can but does not: FileNotFoundError when one of them is not there.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from raydp_ml.persistence.swap import swap
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "old").write_text("old"), (folder / "new").write_text("new")
    >>> swap(folder / "old", folder / "new"), (folder / "old").read_text()
    (True, 'new')
    """
    rename = _renameat2()
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


@cache
def _renameat2() -> Any:
    """The function of the C library; None where it has none: outside Linux, and before glibc 2.28."""
    found = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
        found.restype = ctypes.c_int
    return found
