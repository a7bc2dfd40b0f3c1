"""``raydp-submit``: runs a Python or JVM application of Spark inside a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from raydp_ml.cli.options import Submission, parse, settings_of
from raydp_ml.errors import RaydpMLError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an application.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; None: that of the process.

    Returns
    -------
    int
        The application's exit code; 1 with one message on stderr when it could not be run.
    """
    try:
        submission = parse(sys.argv[1:] if arguments is None else arguments)
        if submission.deploy_mode == "cluster":
            from raydp_ml.cli.job import run_as_job

            return run_as_job(submission)
        settings = settings_of(submission, _settings_of_files(submission))
        if submission.is_python:
            from raydp_ml.cli.python_application import run_python

            return run_python(submission, settings)
        from raydp_ml.cli.jvm_application import run_jvm

        return run_jvm(submission, settings)
    except RaydpMLError as error:
        print(f"raydp-submit: {error}", file=sys.stderr)
        return 1


def _settings_of_files(submission: Submission) -> dict[str, str]:
    """Settings of ``--properties-file``, or else of spark-defaults.conf."""
    from raydp_ml.cluster.jar import spark_home
    from raydp_ml.cluster.spark_conf import read_properties, spark_defaults

    if submission.properties_file is not None:
        return read_properties(Path(submission.properties_file), "--properties-file")
    return spark_defaults(spark_home().path)


if __name__ == "__main__":
    sys.exit(main())
