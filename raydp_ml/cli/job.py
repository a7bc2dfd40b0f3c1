"""Cluster mode: the driver is a Ray job, and this process submits it, shows its output and ends with its exit code."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydp_ml.cli.ending import exit_on_sigterm
from raydp_ml.cli.options import FILE_SETTINGS, Submission
from raydp_ml.cluster.spark_conf import properties_text
from raydp_ml.errors import MissingDependencyError, RaydpMLError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

__all__ = ["run_as_job"]

_POLL_SECONDS = 0.2
_STOP_SECONDS = 30.0
_AGENT_SECONDS = 60.0
_PROPERTIES = "submitted.properties"


def run_as_job(submission: Submission) -> int:
    """Submit an application as a Ray job.

    Parameters
    ----------
    submission : Submission
        What to run. Its local files travel with the job.

    Returns
    -------
    int
        The application's exit code; 0 when nobody shall wait for it; 143 for a job that somebody stopped.

    Raises
    ------
    MissingDependencyError
        When Ray's job client is not installed.
    RaydpMLError
        When the cluster cannot be reached, or does not take the job.
    """
    client = _client(submission.ray_address)
    with tempfile.TemporaryDirectory(prefix="raydp-submit-") as folder:
        packed = _Package(Path(folder)).pack(submission)
        job = _submit(client, submission, _entrypoint(packed), folder)
    print(f"raydp-submit: Ray job {job}", file=sys.stderr)
    return _follow(client, job) if submission.wait else 0


def _client(address: str | None) -> JobSubmissionClient:
    try:
        # What Ray's job client is made of, beside Ray itself.
        importlib.metadata.version("aiohttp")
        importlib.metadata.version("requests")
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingDependencyError(
            'cluster mode needs Ray\'s job client; install it with: pip install "raydp-ml[jobs]"'
        ) from error
    from ray.job_submission import JobSubmissionClient

    if address is not None:
        # The client prefers this variable, and RAY_ADDRESS, to its argument (Ray 2.60).
        os.environ["RAY_API_SERVER_ADDRESS"] = address
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {address!r}" if address is not None else "(RAY_ADDRESS, or this machine)"
        raise RaydpMLError(f"no Ray cluster {where} takes jobs: {error}") from error


def _submit(client: JobSubmissionClient, submission: Submission, entrypoint: str, folder: str) -> str:
    """Submit, and wait for a cluster that has just started: it takes jobs when the agents of its nodes are there."""
    deadline = time.monotonic() + _AGENT_SECONDS
    while True:
        try:
            return client.submit_job(
                entrypoint=entrypoint,
                runtime_env={"working_dir": folder},
                submission_id=submission.submission_id,
                metadata={"name": submission.settings.get("spark.app.name", Path(submission.application).stem)},
                entrypoint_num_cpus=submission.driver_cores,
            )
        except (RuntimeError, ValueError, OSError) as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise RaydpMLError(f"Ray did not take the job: {error}") from error
            time.sleep(_POLL_SECONDS)


class _Package:
    """The folder that becomes the job's working directory.

    Parameters
    ----------
    folder : pathlib.Path
        An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pack(self, submission: Submission) -> list[str]:
        """Copy local files, and give the command line that runs the application from within the folder."""
        settings = {
            key: self._files(value) if key in FILE_SETTINGS else value for key, value in submission.settings.items()
        }
        arguments = []
        if submission.properties_file is not None:
            arguments += ["--properties-file", self._copy(submission.properties_file)]
        # In a file and not on the command line, which everybody sees who may list jobs.
        (self._folder / _PROPERTIES).write_text(properties_text(settings), encoding="utf-8")
        arguments += ["--submitted-settings", _PROPERTIES]
        if submission.main_class is not None:
            arguments += ["--class", submission.main_class]
        is_file = submission.is_python or submission.application.endswith(".jar")
        application = self._copy(submission.application) if is_file else submission.application
        return [*arguments, application, *submission.arguments]

    def _files(self, names: str) -> str:
        return ",".join(self._copy(name.strip()) for name in names.split(",") if name.strip())

    def _copy(self, name: str) -> str:
        """The name inside the folder; files that are elsewhere (``hdfs://``, ``s3://``, ``local:``) keep theirs."""
        path, mark, alias = name.partition("#")
        path = path.removeprefix("file://").removeprefix("file:")
        if "://" in path or path.startswith("local:"):
            return name
        source = Path(path)
        if not source.is_file():
            raise RaydpMLError(f"the file {path} does not exist")
        target = self._folder / source.name
        number = 0
        while target.exists() and target.read_bytes() != source.read_bytes():
            number += 1
            target = self._folder / str(number) / source.name
            target.parent.mkdir(exist_ok=True)
        shutil.copy(source, target)
        return f"{target.relative_to(self._folder)}{mark}{alias}"


def _entrypoint(arguments: list[str]) -> str:
    """The job's command: with the cluster's Python, or, where that is none of ours (one machine, not activated), with this one."""
    python = f"PY=python; $PY -c 'import raydp_ml, pyspark, ray' 2>/dev/null || PY={shlex.quote(sys.executable)}"
    return f"{python}; exec $PY -m raydp_ml.cli.submit {shlex.join(arguments)}"


def _follow(client: JobSubmissionClient, job: str) -> int:
    exit_on_sigterm()
    try:
        asyncio.run(_show(client, job))
        info = _at_end(client, job, lambda: False)
    except (KeyboardInterrupt, SystemExit) as ended:
        print(f"raydp-submit: stopping Ray job {job}", file=sys.stderr)
        client.stop_job(job)
        deadline = time.monotonic() + _STOP_SECONDS
        _at_end(client, job, lambda: time.monotonic() > deadline)
        return int(ended.code or 0) if isinstance(ended, SystemExit) else 128 + signal.SIGINT
    if info.status == "SUCCEEDED":
        return 0
    if info.status == "STOPPED":
        return 128 + signal.SIGTERM
    # The output is on the screen already; Ray repeats its end after the first line.
    first = (info.message or "").partition(", last available logs")[0]
    print(f"raydp-submit: Ray job {job} failed: {first}", file=sys.stderr)
    return int(info.driver_exit_code or 1)


async def _show(client: JobSubmissionClient, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


def _at_end(client: JobSubmissionClient, job: str, give_up: Callable[[], bool]) -> Any:
    while True:
        info = client.get_job_info(job)
        if info.status.is_terminal() or give_up():
            return info
        time.sleep(_POLL_SECONDS)
