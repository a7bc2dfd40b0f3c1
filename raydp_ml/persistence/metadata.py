"""``metadata.json``: what a saved directory says of itself."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.filesystems import METADATA
from raydp_ml.versions import library_versions

__all__ = ["FORMAT_VERSION", "Metadata", "warn_about_versions"]

FORMAT_VERSION = 1
_FORMAT = "raydp_ml"


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
    """

    kind: str
    params: dict[str, Any]
    state: Any
    versions: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Write it into a directory whose other files are complete."""
        content = {
            "format": _FORMAT,
            "format_version": FORMAT_VERSION,
            "class": self.kind,
            "versions": dict(self.versions),
            "params": self.params,
            "state": self.state,
        }
        (folder / METADATA).write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")

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
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InvalidValueError(
                f"{folder} holds no {METADATA}: it was not saved by raydp_ml, or the save did not finish"
            ) from error
        except ValueError as error:
            raise InvalidValueError(f"{file} is damaged: {error}") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise InvalidValueError(f"{folder} holds a {METADATA} that is not raydp_ml's")
        version = content.get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            saved_by = (content.get("versions") or {}).get("raydp_ml", "a newer version")
            raise InvalidValueError(
                f"{folder} has format version {version}, this raydp_ml reads up to {FORMAT_VERSION}; it was saved by "
                f"raydp_ml {saved_by}: install that or a later one"
            )
        missing = [key for key in ("class", "params", "state", "versions") if key not in content]
        if missing:
            raise InvalidValueError(f"{file} is damaged: it has no {', '.join(missing)}")
        return cls(content["class"], content["params"], content["state"], content["versions"])


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
