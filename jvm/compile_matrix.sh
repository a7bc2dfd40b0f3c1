#!/bin/sh
# Compile the Scala sources against each supported Spark line, each in a folder that holds pyspark and nothing else.
# usage: compile_matrix.sh PYTHON [--package]     --package puts the jars into the package, for a wheel
set -eu
python=$1
mode=${2:-}
failed=
for version in '3.5.9' '4.0.*' '4.1.*' '4.2.*' '4.3.0'; do
    line=$(echo "$version" | cut -d. -f1-2)
    folder=build/jvm-matrix/$line
    if ! [ -d "$folder/pyspark" ]; then
        echo "spark $version: fetching pyspark"
        mkdir -p build/jvm-matrix && rm -rf "$folder.partial"
        # pip's warnings about folders it skips go to a log; the log is shown when pip fails.
        "$python" -m pip install -q --no-deps --target "$folder.partial" "pyspark==$version" \
            >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
        mv "$folder.partial" "$folder"
    fi
    out="--out build/jvm-matrix/raydp-ml-spark-$line.jar"
    [ -z "$mode" ] || out=$mode
    # shellcheck disable=SC2086 # $out is an option and its value
    if jar=$("$python" -m raydp_ml.build_jar --spark-home "$folder/pyspark" $out); then
        echo "spark $version: $jar"
    else
        echo "spark $version: FAILED" >&2
        failed="$failed $line"
    fi
done
[ -z "$failed" ] || { echo "does not compile for:$failed" >&2; exit 1; }
