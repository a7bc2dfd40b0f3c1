"""A Ray cluster that ``ray start`` has started, with job server and client server, for programs that connect from elsewhere."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import until


@dataclass(frozen=True)
class StartedRay:
    """Where the cluster is reached.

    Attributes
    ----------
    address : str
        For ``ray.init`` of a driver on its machine.
    jobs : str
        For Ray's job client.
    client : str
        For ``ray.init`` of a Ray Client.
    folder : pathlib.Path
        Its temporary folder.
    environment : dict
        What a process needs that connects to it.
    """

    address: str
    jobs: str
    client: str
    folder: Path
    environment: dict[str, str]


@contextmanager
def started_ray(cpus: int) -> Iterator[StartedRay]:
    """Start a cluster of one node, and end it."""
    # Ports that nobody has at the moment; held together, so that they differ.
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        port, jobs, client = (each.getsockname()[1] for each in sockets)
    folder = Path(tempfile.mkdtemp(prefix="rdp_", dir="/tmp"))
    # Jobs look for their cluster in RAY_TMPDIR, and there may be others on this machine.
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_TMPDIR": str(folder), "RAY_worker_niceness": "0"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--num-cpus={cpus}"]
    command += [f"--port={port}", f"--dashboard-port={jobs}", f"--ray-client-server-port={client}"]
    command += [f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"]
    log = folder / "start.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: "Ray runtime started" in log.read_text() or process.poll() is not None, 90, log.read_text)
        yield StartedRay(
            f"127.0.0.1:{port}", f"http://127.0.0.1:{jobs}", f"ray://127.0.0.1:{client}", folder, environment
        )
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
