#!/bin/sh
# Make a virtual environment if it is not there, and install this project into it with some extras; one line per step.
# usage: install.sh PYTHON ENVIRONMENT CONSTRAINTS EXTRAS

set -eu
python=$1
environment=$2
constraints=$3
extras=$4
pip_log=$environment/pip.log

say() {
    echo "raydp-ml: $1"
}

pip_install() {
    # pip's warnings about folders it skips fill screens on some machines; everything else it says is shown.
    if "$environment/bin/python" -m pip install -q --disable-pip-version-check -c "$constraints" "$@" >"$pip_log" 2>&1; then
        grep -v -e 'WARNING: Location ' -e '^ *$' "$pip_log" >&2 || true
    else
        code=$?
        cat "$pip_log" >&2
        say "pip failed; its output is above" >&2
        exit $code
    fi
}

if ! [ -x "$environment/bin/python" ]; then
    say "making $environment with $("$python" --version)"
    "$python" -m venv "$environment"
fi
if ! "$environment/bin/python" -m pip show -qq torch 2>/dev/null; then
    # First and alone: a range that this version satisfies then fetches no other build of it.
    say "installing $(grep '^torch==' "$constraints") (200 MB; 2 GB where pip picks the build for GPUs)"
    pip_install torch
fi
say "installing raydp-ml[$extras] with Ray and Spark (the first time this takes a few minutes)"
pip_install -e ".[$extras]"
rm -f "$pip_log"
say "$environment is ready ($(du -sh "$environment" | cut -f1))"
