"""The fits of a search, written down as they are made, so that a search whose driver died goes on behind them.

Below ``storage_path`` lies a folder with ``search.json``, which tells the search that it belongs to, and a small file for each
candidate. Ray Tune's own files are not read: what they hold depends on its version, and they know nothing of folds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pyarrow import fs

from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.filesystems import filesystem_of, write_whole
from raydp_ml.search.trial import Outcome

__all__ = ["Journal", "fingerprint"]

_FOLDER = "raydp_ml_search"
_HEAD = "search.json"
# Addresses of objects and the random parts of Spark's names are others in another process.
_UNSTABLE = re.compile(r"0x[0-9a-f]+|_[0-9a-f]{12}")


def fingerprint(
    estimator: Any, candidates: Sequence[Mapping[str, Any]], y: np.ndarray, folds: str, **settings: Any
) -> dict[str, str]:
    """What has to be the same for fits of one search to count in another.

    Parameters
    ----------
    estimator : estimator
        What is searched.
    candidates : sequence of mapping
        Parameters of each.
    y : numpy.ndarray
        Labels.
    folds : str
        A hash of the splits.
    **settings : object
        Further arguments of the search that change scores.
    """
    labels = y.tobytes() if y.dtype != object else "\x1f".join(map(str, y.ravel())).encode()
    described = {
        "estimator": f"{type(estimator).__name__} {sorted(estimator.get_params(deep=True).items(), key=lambda item: item[0])}",
        "candidates": str([dict(params) for params in candidates]),
        "labels": hashlib.sha256(labels).hexdigest(),
        "folds": folds,
        **{name: str(value) for name, value in settings.items()},
    }
    return {name: _UNSTABLE.sub("", text) for name, text in described.items()}


class Journal:
    """Written and read by the driver.

    Parameters
    ----------
    storage_path : str or path-like
        A local path or a URI that ``pyarrow.fs`` understands.
    """

    def __init__(self, storage_path: str | os.PathLike[str]) -> None:
        self._fs, path = filesystem_of(storage_path, "storage_path")
        self._folder = f"{path.rstrip('/')}/{_FOLDER}"

    def begin(self, search: Mapping[str, str], *, resume: bool) -> dict[int, Outcome]:
        """Start writing.

        Parameters
        ----------
        search : mapping
            See :func:`fingerprint`.
        resume : bool
            Whether to go on behind the fits that are there; otherwise they are removed.

        Returns
        -------
        dict
            The fits that are there by candidate.

        Raises
        ------
        InvalidValueError
            When they are those of another search.
        """
        there = self._fs.get_file_info(f"{self._folder}/{_HEAD}").is_file
        if resume and there:
            self._compare(search)
            return self._read()
        if self._fs.get_file_info(self._folder).type == fs.FileType.Directory:
            self._fs.delete_dir(self._folder)
        self._fs.create_dir(self._folder, recursive=True)
        self._write(_HEAD, json.dumps(dict(search), indent=1))
        return {}

    def _compare(self, search: Mapping[str, str]) -> None:
        stored = json.loads(self._text(_HEAD))
        other = [name for name in {**stored, **search} if stored.get(name) != search.get(name)]
        if other:
            hint = ""
            if {"candidates", "folds"} & set(other):
                hint = "; give a random_state, so that candidates and folds are drawn again as they were"
            raise InvalidValueError(
                f"resume=True, but {self._folder} holds the fits of a search that differs in {', '.join(other)}{hint}. Use another "
                "storage_path, or resume=False, which starts from the beginning and removes them"
            )

    def _read(self) -> dict[int, Outcome]:
        outcomes = {}
        for info in self._fs.get_file_info(fs.FileSelector(self._folder)):
            number, _, kind = info.base_name.partition(".")
            if kind == "json" and number.isdigit():
                outcome = Outcome.from_dict(json.loads(self._text(info.base_name)))
                # A fit that failed may have failed with the driver, so it and what came after it are made again.
                failed = [place for place, result in enumerate(outcome.results) if result.error is not None]
                outcomes[int(number)] = replace(outcome, results=outcome.results[: failed[0] if failed else None])
        return outcomes

    def keep(self, candidate: int, outcome: Outcome) -> None:
        """Write the fits of a candidate down."""
        self._write(f"{candidate:06d}.json", json.dumps(outcome.to_dict()))

    def _text(self, name: str) -> str:
        with self._fs.open_input_stream(f"{self._folder}/{name}") as stream:
            return str(stream.read(), "utf-8")

    def _write(self, name: str, text: str) -> None:
        write_whole(self._fs, f"{self._folder}/{name}", text.encode())
