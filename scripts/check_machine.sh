#!/bin/sh
# Is there a Python and a Java to work with? Prints the Python to use; or one line that says what to install, and fails.
#
# PYTHON=... chooses the Python, otherwise the environment that exists already, otherwise what PATH has.
# Which Java fits which Spark is decided by raydp_ml/cluster/java.py, here as at run time: that file needs no installation.
# usage: check_machine.sh ENVIRONMENT SPARK_VERSION

environment=$1
spark=$2
here=$(cd "$(dirname "$0")/.." && pwd)

fail() {
    echo "raydp-ml: $1" >&2
    exit 1
}

version_of() { # "3 11" and so on; nothing when it does not run
    "$1" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null
}

python=
oldest=
if [ -n "$PYTHON" ]; then
    candidates=$PYTHON
else
    candidates="$environment/bin/python python3.11 python3.12 python3.13 python3 python"
fi
for candidate in $candidates; do
    set -- $(version_of "$candidate")
    [ $# -eq 2 ] || continue
    if [ "$1" -eq 3 ] && [ "$2" -ge 11 ]; then
        python=$candidate
        break
    fi
    oldest="$candidate is $1.$2"
done
if [ -z "$python" ]; then
    fail "needs Python 3.11 or newer (${oldest:-no python3 on PATH}); install python3.11 with its venv module, or set PYTHON"
fi
if [ "$python" != "$environment/bin/python" ] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    fail "$python cannot make virtual environments; install its venv module (Debian and Ubuntu: python3-venv)"
fi

PYTHONPATH=$here "$python" - "$spark" >&2 <<'END' || exit 1
import sys

from raydp_ml.cluster.java import find_java
from raydp_ml.errors import RaydpMLError

try:
    find_java(sys.argv[1])
except (RaydpMLError, OSError) as error:
    sys.exit(f"raydp-ml: {error}")
END
echo "$python"
