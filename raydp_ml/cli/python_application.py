"""Client mode for Python programs: the program runs in this process, beside the master that its session needs."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from raydp_ml.cli.ending import exit_on_sigterm
from raydp_ml.cli.options import Submission
from raydp_ml.cli.request import request_of

__all__ = ["run_python"]


def run_python(submission: Submission, settings: Mapping[str, str]) -> int:
    """Run a Python program as ``python PROGRAM ARGUMENT...`` does, with Spark on Ray for it.

    Parameters
    ----------
    submission : Submission
        What to run.
    settings : mapping
        Spark's settings.

    Returns
    -------
    int
        What the program exits with.
    """
    from raydp_ml import session

    program = submission.application.removeprefix("file:")
    exit_on_sigterm()
    with _modules(settings.get("spark.submit.pyFiles", "")) as paths:
        session.submit(request_of(settings, Path(program).stem), submission.ray_address)
        exit_on_sigterm()
        try:
            sys.argv = [program, *submission.arguments]
            sys.path[:0] = [str(Path(program).resolve().parent), *paths]
            return _run(program)
        finally:
            session.stop_spark()


def _run(program: str) -> int:
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return 0 if end.code is None else int(end.code)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        # Without the frames of this module and of runpy, which say nothing of the program.
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename in (__file__, runpy.__file__, "<frozen runpy>"):
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
        return 1
    return 0


@contextmanager
def _modules(files: str) -> Iterator[list[str]]:
    """Entries of the Python path for ``--py-files``: zip files as they are, modules in a folder without their neighbours.

    Files that are elsewhere are on the path when the SparkContext is made, which fetches them.
    """
    with tempfile.TemporaryDirectory(prefix="raydp-submit-") as folder:
        paths = []
        for file in filter(None, (name.strip() for name in files.split(","))):
            path = file.removeprefix("file://").removeprefix("file:")
            if "://" in path:
                continue
            if path.endswith(".py"):
                shutil.copy(path, folder)
            else:
                paths.append(os.path.abspath(path))
        yield [folder, *paths]
