"""The jar that raydp_ml adds to Spark's class path: find the one that fits the running Spark, or compile it.

Scala is compiled with the compiler that every pyspark wheel ships, so neither Maven nor sbt nor a network is needed. A jar
fits one minor line of Spark only: its name carries the line, and the jar refuses to start on another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from raydp_ml.cluster import jar_cache
from raydp_ml.cluster.java import find_java
from raydp_ml.errors import MissingDependencyError, RaydpMLError

_BUILD_PROPERTIES = "raydp-ml-build.properties"


@dataclass(frozen=True)
class SparkHome:
    """A Spark installation, and what its jars say of themselves."""

    path: Path
    version: str
    scala: str

    @property
    def line(self) -> str:
        """Minor line, ``"4.3"``: private classes are stable within it only."""
        return ".".join(self.version.split(".")[:2])

    @property
    def jars(self) -> list[Path]:
        return sorted((self.path / "jars").glob("*.jar"))


def spark_home(path: str | os.PathLike[str] | None = None) -> SparkHome:
    """Describe a Spark installation.

    Parameters
    ----------
    path : path-like, optional
        Its folder. None: SPARK_HOME, else the installed pyspark package, as PySpark itself decides.

    Returns
    -------
    SparkHome
        Folder, Spark version and Scala binary version.

    Raises
    ------
    MissingDependencyError
        When there is no Spark.

    Examples
    --------
    >>> spark_home().path.name
    'pyspark'
    """
    if path is None:
        path = os.environ.get("SPARK_HOME")
    if path is None:
        spec = find_spec("pyspark")
        if spec is None or spec.origin is None:
            raise MissingDependencyError("pyspark is not installed; install it with: pip install pyspark")
        path = Path(spec.origin).parent
    home = Path(path)
    for jar in (home / "jars").glob("spark-core_*.jar"):
        match = re.fullmatch(r"spark-core_(\d+\.\d+)-(\d+\.\d+\.\d+)(.*)\.jar", jar.name)
        if match:
            return SparkHome(home, match.group(2), match.group(1))
    raise MissingDependencyError(f"{home} holds no Spark: there is no jars/spark-core_*.jar in it")


def _sources_folder() -> Path:
    """Of the package that runs: in a checkout beside it, also when another checkout is the one that is installed."""
    beside = Path(__file__).resolve().parents[2] / "jvm"
    if (beside / "src" / "main").is_dir():
        return beside
    spec = find_spec("raydp_ml.jvm")
    if spec is None or not spec.submodule_search_locations:
        raise RaydpMLError("the Scala sources of raydp-ml are missing from this installation")
    return Path(next(iter(spec.submodule_search_locations)))


def sources() -> dict[str, bytes]:
    """The Scala sources and resources of the jar, by their path inside ``jvm/src/main``."""
    main = _sources_folder() / "src" / "main"
    return {
        path.relative_to(main).as_posix(): path.read_bytes()
        for path in sorted(main.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def source_hash(files: dict[str, bytes]) -> str:
    """Short hash that names a state of the sources."""
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        digest.update(name.encode() + b"\0" + text + b"\0")
    return digest.hexdigest()[:12]


def jar_name(home: SparkHome, digest: str) -> str:
    """File name of the jar for a Spark line and a state of the sources."""
    return f"raydp-ml-spark-{home.line}_{home.scala}-{digest}.jar"


def find_jar(name: str) -> Path | None:
    """The jar of this name in the package or in the cache, to be used by this process; None when this machine has none."""
    places = (Path(__file__).parent.parent / "jars" / name, jar_cache.folder() / name)
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        jar_cache.use(found)
    return found


def ensure_jar(home: SparkHome | None = None) -> Path:
    """Path of the jar that fits a Spark: from the package, from the cache, or compiled now (about 15 s, said in one line).

    Parameters
    ----------
    home : SparkHome, optional
        The Spark; None: the installed one.

    Returns
    -------
    pathlib.Path
        The jar.

    Raises
    ------
    RaydpMLError
        When the compiler fails; the message holds its output.
    """
    home = home or spark_home()
    files = sources()
    name = jar_name(home, source_hash(files))
    found = find_jar(name)
    if found is not None:
        return found
    cached = jar_cache.folder() / name
    cached.parent.mkdir(parents=True, exist_ok=True)
    with open(jar_cache.lock_of(cached), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cached.is_file():
            print(f"raydp-ml: compiling its jar for Spark {home.version} (once, about 15 s)", file=sys.stderr)
            compile_jar(home, cached, files)
    jar_cache.use(cached)
    jar_cache.prune()
    return cached


def compile_jar(home: SparkHome, out: Path, files: dict[str, bytes] | None = None) -> None:
    """Compile the sources against a Spark and write the jar in one step (rename), so that nobody sees half of it.

    Parameters
    ----------
    home : SparkHome
        The Spark whose compiler and jars are used.
    out : pathlib.Path
        The jar to write.
    files : dict, optional
        The sources; None: those of this installation.
    """
    files = files if files is not None else sources()
    java = find_java(home.version)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="raydp-ml-jar-") as folder:
        work = Path(folder)
        scala = []
        for name, text in files.items():
            target = work / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)
            if name.endswith(".scala"):
                scala.append(str(target))
        compiled = work / "compiled.jar"
        class_path = os.pathsep.join(str(jar) for jar in home.jars)
        command = [java, "-Xss8m", "-cp", class_path, "scala.tools.nsc.Main", "-nobootcp"]
        command += ["-classpath", class_path, "-d", str(compiled), "-deprecation:false", "-encoding", "UTF-8", *scala]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not compiled.is_file():
            raise RaydpMLError(
                f"compiling the jar for Spark {home.version} failed:\n{(done.stdout + done.stderr)[-6000:]}"
            )
        with zipfile.ZipFile(compiled, "a") as jar:
            jar.writestr(_BUILD_PROPERTIES, f"spark.version={home.version}\nsource.hash={source_hash(files)}\n")
            for name, text in files.items():
                if name.startswith("resources/"):
                    jar.writestr(name.removeprefix("resources/"), text)
        handle, temporary = tempfile.mkstemp(prefix=out.name, dir=out.parent)
        with os.fdopen(handle, "wb") as target_file:
            target_file.write(compiled.read_bytes())
        os.chmod(temporary, 0o644)
        os.replace(temporary, out)
