"""Build the jar ahead of its first use, and the archive of classes that makes JVMs start fast: ``python -m raydp_ml.build_jar``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from raydp_ml.cluster.class_archive import make_archive
from raydp_ml.cluster.jar import compile_jar, ensure_jar, jar_name, source_hash, sources, spark_home
from raydp_ml.errors import RaydpMLError


def main(arguments: list[str] | None = None) -> int:
    """Compile the jar for one Spark.

    Parameters
    ----------
    arguments : list of str, optional
        Command line; None: that of the process.

    Returns
    -------
    int
        0, or 1 with one message on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m raydp_ml.build_jar", description=__doc__)
    parser.add_argument("--spark-home", help="folder of the Spark to compile for (default: the one that PySpark uses)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, help="write the jar to this file")
    where.add_argument("--package", action="store_true", help="put the jar into the package, for a wheel")
    options = parser.parse_args(arguments)
    try:
        home = spark_home(options.spark_home)
        if options.package:
            options.out = Path(__file__).parent / "jars" / jar_name(home, source_hash(sources()))
        if options.out is not None:
            compile_jar(home, options.out)
            jar = options.out
        else:
            jar = ensure_jar(home)
            make_archive(home, jar)
    except RaydpMLError as error:
        print(f"raydp-ml: {error}", file=sys.stderr)
        return 1
    print(jar)
    return 0


if __name__ == "__main__":
    sys.exit(main())
