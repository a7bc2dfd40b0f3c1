"""What ``raydp-submit`` takes, in the words of spark-submit, and what that means as Spark's settings."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raydp_ml.cluster.spark_conf import read_properties
from raydp_ml.errors import InvalidValueError

__all__ = ["Submission", "parse", "ray_address_of", "settings_of"]

# An option of spark-submit, the setting that says the same, and what it is for.
_OPTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("--name", "spark.app.name", "NAME", "name of the application"),
    ("--num-executors", "spark.executor.instances", "N", "executors (default: 2)"),
    ("--executor-cores", "spark.executor.cores", "N", "cores of each (default: 1)"),
    ("--executor-memory", "spark.executor.memory", "SIZE", "heap of each (default: 1g)"),
    ("--driver-memory", "spark.driver.memory", "SIZE", "heap of the driver JVM (default: 1g)"),
    ("--driver-java-options", "spark.driver.extraJavaOptions", "OPTIONS", "options of the driver JVM"),
    ("--driver-class-path", "spark.driver.extraClassPath", "PATH", "class path entries of the driver JVM"),
    ("--driver-library-path", "spark.driver.extraLibraryPath", "PATH", "library path entries of the driver JVM"),
    ("--py-files", "spark.submit.pyFiles", "FILES", "modules and zip files for the Python path, by comma"),
    ("--files", "spark.files", "FILES", "files for the working directories, by comma"),
    (
        "--archives",
        "spark.archives",
        "FILES",
        "archives that are unpacked there, by comma; FILE#FOLDER names the folder",
    ),
    ("--jars", "spark.jars", "FILES", "jars for driver and executors, by comma"),
    ("--packages", "spark.jars.packages", "COORDINATES", "Maven coordinates of jars, by comma"),
    ("--exclude-packages", "spark.jars.excludes", "NAMES", "what to leave out of their dependencies"),
    ("--repositories", "spark.jars.repositories", "URLS", "where to look for them beside Maven Central"),
)
# Those whose values are lists of files, which travel with a job in cluster mode.
FILE_SETTINGS = ("spark.submit.pyFiles", "spark.files", "spark.archives", "spark.jars")


@dataclass(frozen=True)
class Submission:
    """A command line of ``raydp-submit``.

    Attributes
    ----------
    application : str
        A ``.py`` file, or a jar.
    arguments : tuple of str
        What follows it.
    main_class : str, optional
        Class of a JVM application; None: the jar's manifest names it.
    deploy_mode : str
        Where the driver runs: here (``"client"``), or in the cluster as a Ray job (``"cluster"``).
    settings : dict of str to str
        Of the options and ``--conf``.
    properties_file : str, optional
        In place of ``spark-defaults.conf``.
    ray_address : str, optional
        The Ray cluster.
    driver_cores : float, optional
        CPUs that Ray counts for the driver in cluster mode.
    submission_id : str, optional
        Name of the Ray job in cluster mode.
    wait : bool
        Whether cluster mode waits for the end, and shows the driver's output.
    """

    application: str
    arguments: tuple[str, ...]
    main_class: str | None
    deploy_mode: str
    settings: Mapping[str, str]
    properties_file: str | None
    ray_address: str | None
    driver_cores: float | None
    submission_id: str | None
    wait: bool

    @property
    def is_python(self) -> bool:
        """Whether the application is a Python program."""
        return self.application.endswith(".py")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raydp-submit",
        usage="raydp-submit [options] APPLICATION.py|APPLICATION.jar [arguments of the application]",
        description="Run a Spark application inside a Ray cluster. Exits with the application's exit code.",
        allow_abbrev=False,
    )
    parser.add_argument("--master", default="ray", metavar="ray", help="ray, which may be left out, or ray://HOST:PORT")
    parser.add_argument(
        "--ray-address", metavar="ADDRESS", help="the Ray cluster (default: RAY_ADDRESS, else one here)"
    )
    parser.add_argument("--ray-conf", metavar="FILE", help="RayDP's file for the same: JSON with ray.address")
    parser.add_argument("--deploy-mode", choices=("client", "cluster"), default="client", help="where the driver runs")
    parser.add_argument("--class", dest="main_class", metavar="CLASS", help="main class of a JVM application")
    parser.add_argument("--conf", "-c", action="append", default=[], metavar="KEY=VALUE", help="a setting of Spark")
    parser.add_argument("--properties-file", metavar="FILE", help="settings, in place of conf/spark-defaults.conf")
    for option, key, value, about in _OPTIONS:
        parser.add_argument(option, dest=key, metavar=value, help=about)
    # What a job of cluster mode was submitted with, see job.py: as --conf, but in a file.
    parser.add_argument("--submitted-settings", help=argparse.SUPPRESS)
    parser.add_argument(
        "--driver-cores", type=float, metavar="N", help="cluster mode: CPUs for the driver (default: 0)"
    )
    parser.add_argument("--submission-id", metavar="NAME", help="cluster mode: name of the Ray job")
    parser.add_argument("--no-wait", action="store_true", help="cluster mode: return when the job is submitted")
    parser.add_argument("application", help="a Python program, or a jar")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    return parser


def parse(arguments: Sequence[str]) -> Submission:
    """Read a command line.

    Parameters
    ----------
    arguments : sequence of str
        Without the name of the program.

    Raises
    ------
    InvalidValueError
        When options contradict each other or name what is not there.
    SystemExit
        For unknown options, and for ``--help``.

    Examples
    --------
    >>> parsed = parse(["--num-executors", "3", "--conf", "spark.ui.enabled=false", __file__, "--num", "1"])
    >>> dict(parsed.settings), parsed.arguments
    ({'spark.ui.enabled': 'false', 'spark.executor.instances': '3'}, ('--num', '1'))
    """
    given = _parser().parse_args(list(arguments))
    address = given.ray_address
    if given.ray_conf is not None:
        if address is not None:
            raise InvalidValueError("give --ray-address or --ray-conf, not both")
        address = ray_address_of(given.ray_conf)
    if given.master.startswith("ray://"):
        address = address or given.master
    elif given.master != "ray":
        raise InvalidValueError(
            f"--master={given.master!r} is no Ray cluster: raydp-submit runs applications on Ray (--master ray, --ray-address); "
            "for other clusters there is spark-submit"
        )
    settings = read_properties(given.submitted_settings, "--submitted-settings") if given.submitted_settings else {}
    settings |= dict(_pair(text) for text in given.conf)
    settings |= {key: value for _, key, _, _ in _OPTIONS if (value := getattr(given, key)) is not None}
    submission = Submission(
        given.application,
        tuple(given.arguments),
        given.main_class,
        given.deploy_mode,
        settings,
        given.properties_file,
        address,
        given.driver_cores,
        given.submission_id,
        not given.no_wait,
    )
    _check(submission)
    return submission


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InvalidValueError(f"--conf={text!r} must be KEY=VALUE")
    return key.strip(), value.strip()


def _check(submission: Submission) -> None:
    name = submission.application
    if name.lower().endswith(".r"):
        raise InvalidValueError(f"{name} is an R program; raydp-submit runs Python programs and jars")
    if submission.is_python and submission.main_class is not None:
        raise InvalidValueError(f"--class={submission.main_class} is for jars, but the application is {name}")
    if not submission.is_python and not name.endswith(".jar") and submission.main_class is None:
        raise InvalidValueError(f"{name} is neither a .py file nor a .jar; a class on the class path needs --class")
    for key, option in (("spark.master", "--master"), ("spark.submit.deployMode", "--deploy-mode")):
        if key in submission.settings:
            raise InvalidValueError(f"--conf {key}={submission.settings[key]} does nothing here; use {option}")
    is_local = (submission.is_python or name.endswith(".jar")) and "://" not in name
    if is_local and not os.path.isfile(name.removeprefix("file:")):
        raise InvalidValueError(f"the application {name} does not exist")
    if submission.deploy_mode == "client":
        for option, value in (
            ("--driver-cores", submission.driver_cores),
            ("--submission-id", submission.submission_id),
        ):
            if value is not None:
                raise InvalidValueError(f"{option} is for --deploy-mode cluster; in client mode the driver runs here")


def ray_address_of(path: str) -> str | None:
    """The cluster that a ``--ray-conf`` file of RayDP names.

    Parameters
    ----------
    path : str
        JSON as RayDP's programs write it (``{"ray": {"run-mode": "CLUSTER", "address": "..."}}``), or lines as
        ``ray.address = "..."``.

    Returns
    -------
    str, optional
        The address; None when the file names none.

    Raises
    ------
    InvalidValueError
        When it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"--ray-conf={path!r} cannot be read: {error}") from error
    try:
        told = json.loads(text)
    except ValueError:
        return _address_in_lines(path, text)
    part = told.get("ray", {}) if isinstance(told, dict) else {}
    address = part.get("address") if isinstance(part, dict) else None
    return str(address) if address else None


def _address_in_lines(path: str, text: str) -> str | None:
    pairs = {}
    for line in text.splitlines():
        line = line.split("#")[0].split("//")[0].strip() if "://" not in line else line.strip()
        if not line:
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise InvalidValueError(
                f"--ray-conf={path!r} is neither JSON nor lines as ray.address = HOST:PORT (at {line!r})"
            )
        pairs[key.strip()] = value.strip().strip("\"'")
    return pairs.get("ray.address")


def settings_of(submission: Submission, defaults: Mapping[str, str]) -> dict[str, str]:
    """All settings of a submission.

    Parameters
    ----------
    submission : Submission
        The command line, whose settings win.
    defaults : mapping
        Settings of files.
    """
    # A file that is shared with other clusters may name one of them.
    elsewhere = ("spark.master", "spark.submit.deployMode")
    settings = {key: value for key, value in defaults.items() if key not in elsewhere} | dict(submission.settings)
    # Spark ignores settings whose names are not its own; this one means the same in the same place of the class path.
    first = settings.pop("raydp.executor.extraClassPath", None)
    if first is not None:
        second = settings.get("spark.executor.extraClassPath")
        settings["spark.executor.extraClassPath"] = os.pathsep.join(filter(None, [first, second]))
    return settings
