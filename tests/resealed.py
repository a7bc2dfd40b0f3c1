"""Saved directories that somebody changed on purpose, with checksums that fit: what then still has to be noticed."""

from __future__ import annotations

import json
from pathlib import Path

from raydp_ml.persistence.checksums import describe_files
from raydp_ml.persistence.metadata import sealed

NAME = "metadata.json"


def reseal(folder: Path) -> None:
    """Write the checksums of a directory's files as they are now."""
    content = json.loads((folder / NAME).read_text())
    files = {name: item for name, item in describe_files(folder).items() if name != NAME}
    (folder / NAME).write_text(json.dumps(sealed({**content, "files": files})))
