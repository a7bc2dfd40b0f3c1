"""The folder of a fit's checkpoints, on any file system of pyarrow."""

from __future__ import annotations

import io
import json
import logging
import uuid
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raydp_ml.errors import InvalidValueError, RaydpMLError
from raydp_ml.estimators.checkpoints.description import differences
from raydp_ml.estimators.checkpoints.keeping import Keeping
from raydp_ml.estimators.protocol import Checkpoint
from raydp_ml.persistence.filesystems import write_whole

__all__ = ["Checkpoints", "WorkerCheckpoints"]

_log = logging.getLogger("raydp_ml.estimators")

_HEAD = "fit.json"
_HISTORY = "history.json"
_SUFFIX = ".checkpoint"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one fit, for all its workers.

    A file of each worker makes a checkpoint; its name says which fit, after which epoch, whose it is, and of how many workers.
    ``run`` is drawn when a fit begins and kept by those that go on with it, so that no worker takes what another fit left there.
    """

    filesystem: Any
    folder: str
    keeping: Keeping
    run: str = ""

    def begin(self, description: Mapping[str, str], *, resume: bool) -> Checkpoints:
        """The checkpoints of a fit that begins, or goes on.

        Parameters
        ----------
        description : mapping of str to str
            What has to be the same for a fit to go on.
        resume : bool
            Whether to go on with the fit whose checkpoints are there; otherwise they are removed.

        Raises
        ------
        InvalidValueError
            When those are of another fit.
        """
        from pyarrow import fs

        there = self._head() if resume else None
        if there is not None:
            other = differences(there["fit"], description)
            if other:
                raise InvalidValueError(
                    f"resume=True, but {self.folder} holds the checkpoints of a fit that differs in {other}. Use another "
                    "storage_path, or resume=False, which starts from the beginning and removes them"
                )
            return replace(self, run=there["run"])
        if self.filesystem.get_file_info(self.folder).type == fs.FileType.Directory:
            self.filesystem.delete_dir_contents(self.folder)
        self.filesystem.create_dir(self.folder, recursive=True)
        begun = replace(self, run=uuid.uuid4().hex[:12])
        head = json.dumps({"run": begun.run, "fit": dict(description)}, indent=1)
        write_whole(self.filesystem, f"{self.folder}/{_HEAD}", head.encode())
        return begun

    def of_worker(self, rank: int, workers: int) -> WorkerCheckpoints:
        """These checkpoints, as one worker of so many writes and reads them."""
        return WorkerCheckpoints(self, rank, workers)

    def remove_old(self, history: Sequence[Mapping[str, float]], spare: int = 0) -> None:
        """Remove the checkpoints that need not stay.

        Parameters
        ----------
        history : sequence of mapping
            The metrics of each epoch.
        spare : int, default=0
            How many of the last ones stay in any case, besides the last.
        """
        files = self.files()
        stay = self.keeping.staying(sorted({each.epoch for each in files}), history, spare)
        for each in files:
            if each.epoch not in stay:
                self.filesystem.delete_file(f"{self.folder}/{each.name}")

    def end(self, history: Sequence[Mapping[str, float]]) -> None:
        """The fit has ended: remove what need not stay, and what workers that died were writing."""
        from pyarrow import fs

        self.remove_old(history)
        for info in self.filesystem.get_file_info(fs.FileSelector(self.folder, allow_not_found=True)):
            if info.base_name.startswith(self.run) and info.extension == "part":
                self.filesystem.delete_file(info.path)

    def files(self) -> list[_File]:
        """The files of this fit's checkpoints."""
        from pyarrow import fs

        selector = fs.FileSelector(self.folder, allow_not_found=True)
        found = (_File.of(info.base_name) for info in self.filesystem.get_file_info(selector))
        return [each for each in found if each is not None and each.run == self.run]

    def _head(self) -> dict[str, Any] | None:
        path = f"{self.folder}/{_HEAD}"
        if not self.filesystem.get_file_info(path).is_file:
            return None
        with self.filesystem.open_input_stream(path) as stream:
            head: dict[str, Any] = json.loads(stream.read())
        return head


@dataclass(frozen=True)
class _File:
    """One worker's part of a checkpoint, by its name."""

    run: str
    epoch: int
    rank: int
    workers: int

    @property
    def name(self) -> str:
        return f"{self.run}.{self.epoch:08d}.{self.rank}.{self.workers}{_SUFFIX}"

    @classmethod
    def of(cls, name: str) -> _File | None:
        """The file of this name; None for a name of another form, that of a file which is being written for example."""
        run, *numbers = name.removesuffix(_SUFFIX).split(".")
        if not name.endswith(_SUFFIX) or len(numbers) != 3 or not all(each.isdigit() for each in numbers):
            return None
        return cls(run, *map(int, numbers))


@dataclass(frozen=True)
class WorkerCheckpoints:
    """The checkpoints of a fit, as one of its workers writes and reads them."""

    checkpoints: Checkpoints
    rank: int
    workers: int

    def is_due(self, epoch: int) -> bool:
        """Whether there is to be a checkpoint after an epoch."""
        return epoch % self.checkpoints.keeping.every == 0

    def write(self, history: Sequence[Mapping[str, float]], state: Callable[[], Mapping[str, bytes]]) -> None:
        """Write this worker's part of a checkpoint.

        Parameters
        ----------
        history : sequence of mapping
            The metrics of each epoch so far.
        state : callable
            Gives the state as named pieces of bytes.
        """
        buffer = io.BytesIO()
        with zipfile.ZipFile(
            buffer, "w"
        ) as archive:  # stored as it is: weights do not become smaller, and each piece has a checksum
            archive.writestr(_HISTORY, json.dumps([dict(each) for each in history]))
            for name, content in state().items():
                archive.writestr(f"state/{name}", content)
        ours = self.checkpoints
        file = _File(ours.run, int(history[-1]["epoch"]), self.rank, self.workers)
        ours.filesystem.create_dir(ours.folder, recursive=True)  # the folder is made on the driver's node
        write_whole(ours.filesystem, f"{ours.folder}/{file.name}", buffer.getbuffer())
        if self.rank == 0:
            # The other workers may not have written this one yet, so that the one before is still the one to go on from.
            ours.remove_old(history, spare=min(self.workers - 1, 1))

    def latest(self) -> Checkpoint | None:
        """The last checkpoint that is whole: the same on all workers, which read it before one of them writes another."""
        files = [each for each in self.checkpoints.files() if each.workers == self.workers]
        for epoch in sorted({each.epoch for each in files}, reverse=True):
            parts = {each.rank: each for each in files if each.epoch == epoch}
            if len(parts) < self.workers:
                continue  # a worker died before it had written its part
            try:
                read = [self._read(parts[rank]) for rank in range(self.workers)]
            except (OSError, zipfile.BadZipFile) as error:
                _log.warning(
                    "the checkpoint after epoch %d cannot be read, so that the one before is used: %s", epoch, error
                )
                continue
            history, state = read[0]
            return Checkpoint(epoch, state, read[self.rank][1], tuple(history))
        return None

    def _read(self, file: _File) -> tuple[list[dict[str, float]], dict[str, bytes]]:
        path = f"{self.checkpoints.folder}/{file.name}"
        with self.checkpoints.filesystem.open_input_stream(path) as stream:
            archive = zipfile.ZipFile(io.BytesIO(stream.read()))
        with archive:
            pieces = {name: archive.read(name) for name in archive.namelist()}
        if _HISTORY not in pieces:
            raise RaydpMLError(f"{path} is no checkpoint")
        history = json.loads(pieces.pop(_HISTORY))
        return history, {name.removeprefix("state/"): content for name, content in pieces.items()}
