"""``metadata.json``: what a saved directory says of itself."""

from __future__ import annotations

import hashlib
import json
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.bounded_json import MAX_BYTES, check_bounds, read_json
from raydp_ml.persistence.checksums import check_files, describe_files, list_files
from raydp_ml.persistence.filesystems import METADATA
from raydp_ml.versions import library_versions

__all__ = ["FORMAT_VERSION", "Metadata", "sealed", "warn_about_versions"]

FORMAT_VERSION = 2
"""Version 1 had no checksums; directories of it are read without them."""
_FORMAT = "raydp_ml"
_SEAL = "checksum"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``metadata.json`` with its own checksum, which :meth:`Metadata.read` compares.

    Parameters
    ----------
    content : mapping
        The content, with an earlier checksum or without one.

    Returns
    -------
    dict
        The content with the checksum of everything else in it.

    Examples
    --------
    >>> from raydp_ml.persistence.metadata import sealed
    >>> sealed({"format": "raydp_ml"})["checksum"][:8]
    '72a220de'
    """
    rest = {key: value for key, value in content.items() if key != _SEAL}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return {**rest, _SEAL: hashlib.sha256(text.encode()).hexdigest()}


@dataclass(frozen=True)
class Metadata:
    """What stands in ``metadata.json``, apart from the format and its version.

    Parameters
    ----------
    kind : str
        Public name of the object's class.
    params : dict
        Constructor arguments in their written form.
    state : object
        The fitted state in its written form; None when there is none.
    versions : mapping of str to str
        Libraries that the object was saved with.
    files : mapping, optional
        The other files, as :func:`raydp_ml.persistence.checksums.describe_files` describes them; None in directories of
        format version 1.
    """

    kind: str
    params: dict[str, Any]
    state: Any
    versions: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]] | None = None

    def write(self, folder: Path) -> None:
        """Write it into a directory whose other files are complete, with their checksums.

        Raises
        ------
        InvalidValueError
            When it would be larger or deeper than what is read again.
        """
        content = {
            "format": _FORMAT,
            "format_version": FORMAT_VERSION,
            "class": self.kind,
            "versions": dict(self.versions),
            "params": self.params,
            "state": self.state,
            "files": {name: item for name, item in describe_files(folder).items() if name != METADATA},
        }
        try:
            check_bounds(content)
        except ValueError as error:
            raise InvalidValueError(f"this {self.kind} cannot be saved: in its {METADATA}, {error}") from error
        text = json.dumps(sealed(content), indent=1, allow_nan=False).encode()
        if len(text) > MAX_BYTES:
            raise InvalidValueError(
                f"this {self.kind} cannot be saved: its parameters and what it learnt take {len(text)} bytes beside the "
                f"weights, and {METADATA} may have {MAX_BYTES}"
            )
        (folder / METADATA).write_bytes(text)

    @classmethod
    def read(cls, folder: Path) -> Metadata:
        """Read it from a directory.

        Raises
        ------
        InvalidValueError
            When it is not there, damaged, not ours or of a newer format.
        """
        file = folder / METADATA
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                raise InvalidValueError(f"{file} is no regular file; it is not read")
            content = read_json(file)
        except FileNotFoundError as error:
            raise InvalidValueError(
                f"{folder} holds no {METADATA}: it was not saved by raydp_ml, or the save did not finish"
            ) from error
        except InvalidValueError:
            raise
        except ValueError as error:
            raise InvalidValueError(f"{file} is damaged: {error}") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise InvalidValueError(f"{folder} holds a {METADATA} that is not raydp_ml's")
        version = content.get("format_version")
        if type(version) is int and version > FORMAT_VERSION:
            versions = content.get("versions")
            saved_by = versions.get("raydp_ml") if isinstance(versions, dict) else None
            raise InvalidValueError(
                f"{folder} has format version {version}, this raydp_ml reads up to {FORMAT_VERSION}; it was saved by "
                f"raydp_ml {saved_by or 'of a newer version'}: install that or a later one"
            )
        # A directory of version 1 has none of the checksums, one of a later version has all.
        sums = {"files", _SEAL} & content.keys()
        if type(version) is not int or version < 1 or len(sums) != (0 if version == 1 else 2):
            raise InvalidValueError(f"{file} is damaged: format version {version!r} and {sorted(sums)} do not fit")
        missing = [key for key in ("class", "params", "state", "versions") if key not in content]
        if missing:
            raise InvalidValueError(f"{file} is damaged: it has no {', '.join(missing)}")
        wrong = [key for key in ("params", "versions", "files") if not isinstance(content.get(key, {}), dict)]
        if wrong or not all(isinstance(item, dict) for item in content.get("files", {}).values()):
            raise InvalidValueError(f"{file} is damaged: {', '.join(wrong) or 'files'} has the wrong form")
        if sums and sealed(content)[_SEAL] != content[_SEAL]:
            raise InvalidValueError(
                f"{file} is damaged, or was changed after it was written (its checksum differs); save it or copy it again"
            )
        return cls(content["class"], content["params"], content["state"], content["versions"], content.get("files"))

    def check_files(self, folder: Path) -> None:
        """Compare the other files of the directory with what was written.

        Raises
        ------
        InvalidValueError
            When one is missing, is too many, has changed or is no regular file.
        """
        if self.files is None:
            list_files(folder)
        else:
            check_files(folder, self.files, apart=frozenset({METADATA}))


def warn_about_versions(saved: Mapping[str, str]) -> None:
    """Warn when a library has moved to another major version since the save.

    Parameters
    ----------
    saved : mapping of str to str
        Versions at the time of the save.
    """
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
