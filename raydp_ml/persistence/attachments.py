"""Files beside ``metadata.json`` that hold the large parts of values, weights for example."""

from __future__ import annotations

from pathlib import Path

from raydp_ml.errors import InvalidValueError

__all__ = ["Attachments"]

_FOLDER = "params"


class Attachments:
    """The files of one saved directory that belong to its values.

    Parameters
    ----------
    folder : Path
        The saved directory; the files lie in its subfolder ``params``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from raydp_ml.persistence.attachments import Attachments
    >>> Attachments(Path(tempfile.mkdtemp())).new(".safetensors")[0]
    'params/0.safetensors'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._count = 0

    def new(self, suffix: str) -> tuple[str, Path]:
        """Name (to write down) and path of a new file."""
        (self.folder / _FOLDER).mkdir(exist_ok=True)
        name = f"{_FOLDER}/{self._count}{suffix}"
        self._count += 1
        return name, self.folder / name

    def find(self, name: str) -> Path:
        """Path of a file named in the metadata, which must lie inside the directory."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            raise InvalidValueError(f"the saved directory names a file {name!r} that it does not hold")
        return path
