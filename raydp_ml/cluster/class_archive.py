"""Spark's classes in a form that a JVM maps instead of loading them: halves the time that drivers and executors need to start.

Class data sharing (JEP 310, JEP 350): a JVM writes the classes it has loaded into an archive, and later JVMs of the same build with
the same class path map it. A JVM that finds that the archive does not fit runs without one.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from raydp_ml.cluster import jar_cache
from raydp_ml.cluster.jar import SparkHome
from raydp_ml.cluster.java import find_java, java_build
from raydp_ml.errors import RaydpMLError

# The JVM would tell on the console that an archive does not fit.
_QUIET = ["-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


def archive_path(home: SparkHome, jar: Path) -> Path:
    """Where the archive for a Spark and a jar of ours is: its name changes with everything that it has to fit.

    Parameters
    ----------
    home : SparkHome
        The Spark.
    jar : pathlib.Path
        Our jar, beside which or in whose cache folder the archive lies.
    """
    digest = hashlib.sha256(java_build(find_java(home.version)).encode())
    for path in [jar, *home.jars]:
        digest.update(f"\0{path}\0{path.stat().st_mtime_ns}".encode())
    return jar.with_name(f"{jar.stem}-{digest.hexdigest()[:12]}.jsa")


def java_options(home: SparkHome, jar: Path) -> list[str]:
    """Options that make a JVM use the archive; none when it was not made here."""
    archive = archive_path(home, jar)
    if not archive.is_file():
        return []
    if archive.parent == jar_cache.folder():
        os.utime(archive)  # the newest are kept
    return [f"-XX:SharedArchiveFile={archive}", *_QUIET]


def make_archive(home: SparkHome, jar: Path) -> Path:
    """Run a small job in local mode and keep the classes that it has loaded (about 20 s and 160 MB, once).

    Parameters
    ----------
    home : SparkHome
        The Spark.
    jar : pathlib.Path
        Our jar.

    Returns
    -------
    pathlib.Path
        The archive.

    Raises
    ------
    RaydpMLError
        When the job fails; the message holds its output.
    """
    archive = archive_path(home, jar)
    if archive.is_file():
        return archive
    # Of its own process: two that make it at the same time do not disturb each other, and the last one's is kept.
    partial = archive.with_name(f"{archive.name}.{os.getpid()}")
    options = [f"-XX:ArchiveClassesAtExit={partial}", *_QUIET]
    command = [str(home.path / "bin" / "spark-submit"), "--class", "org.apache.spark.sql.raydpml.ClassArchive"]
    for key, value in {
        "spark.driver.extraClassPath": str(jar),
        "spark.driver.extraJavaOptions": " ".join(options),
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }.items():
        command += ["--conf", f"{key}={value}"]
    command += ["spark-internal", str(jar)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0 or not partial.is_file():
            raise RaydpMLError(f"making the class archive failed:\n{(done.stdout + done.stderr)[-3000:]}")
        os.replace(partial, archive)
    finally:
        partial.unlink(missing_ok=True)
    jar_cache.prune()
    return archive
