"""Client mode for JVM applications: the driver JVM is the application, and this process holds the master beside it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from raydp_ml.application import Application
from raydp_ml.cli.ending import exit_on_sigterm
from raydp_ml.cli.options import Submission
from raydp_ml.cli.request import request_of
from raydp_ml.cluster.console import copy_output
from raydp_ml.cluster.jvm import tied
from raydp_ml.errors import RaydpMLError

__all__ = ["run_jvm"]

_GRACE_SECONDS = 20.0


def run_jvm(submission: Submission, settings: Mapping[str, str]) -> int:
    """Run a JVM application with Spark's own submit program, with a master on Ray for it.

    Parameters
    ----------
    submission : Submission
        What to run.
    settings : mapping
        Spark's settings.

    Returns
    -------
    int
        What the JVM exits with; 128 and the number of the signal that ended it.
    """
    name = submission.main_class or Path(submission.application).stem
    application = Application(request_of(settings, name), whole=True)
    try:
        application.join(submission.ray_address)
        exit_on_sigterm()
        launch = application.driver_launch()
        command = [str(launch.home.path / "bin" / "spark-submit"), "--properties-file", str(launch.properties)]
        if submission.main_class is not None:
            command += ["--class", submission.main_class]
        command += [submission.application, *submission.arguments]
        application.watch()
        return _run(tied(command), {**os.environ, **launch.environment})
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        application.end(cleanup_data=True)


def _run(command: list[str], environment: Mapping[str, str]) -> int:
    """The JVM is in this process's group: ^C in a terminal reaches it, and it may read from the terminal."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    if process.stderr is None:
        raise RaydpMLError("the driver JVM has no pipe")
    output = copy_output(process.stderr)
    try:
        code = process.wait()
        output.join()
    except (KeyboardInterrupt, SystemExit) as end:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return int(end.code or 0) if isinstance(end, SystemExit) else 128 + signal.SIGINT
    return 128 - code if code < 0 else code
