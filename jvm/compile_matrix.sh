#!/bin/sh
# Compile the Scala sources against each supported Spark line, each in a folder that holds pyspark and nothing else.
# usage: compile_matrix.sh PYTHON [--package]     --package puts the jars into the package, for a wheel
#
# The newest version of a line is fetched once, into build/jvm-matrix (about 450 MB each); remove that folder to fetch anew.
set -eu
python=$1
mode=${2:-}
work=build/jvm-matrix
failed=
mkdir -p "$work"
for wanted in '3.5.9' '4.0.*' '4.1.*' '4.2.*' '4.3.0'; do
    line=$(echo "$wanted" | cut -d. -f1-2)
    folder=$work/$line
    if ! [ -d "$folder/pyspark" ]; then
        echo "spark $wanted: fetching pyspark"
        rm -rf "$folder.partial"
        # pip's warnings about folders it skips go to a log; the log is shown when pip fails.
        "$python" -m pip install -q --no-deps --target "$folder.partial" "pyspark==$wanted" \
            >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
        mv "$folder.partial" "$folder"
    fi
    version=$(basename "$folder"/pyspark-*.dist-info | sed 's/^pyspark-//; s/\.dist-info$//')
    # shellcheck disable=SC2086 # ${mode:-...} is an option, or an option and its value
    if jar=$("$python" -m raydp_ml.build_jar --spark-home "$folder/pyspark" ${mode:---out $work/raydp-ml-spark-$line.jar}); then
        echo "spark $version: $jar"
    else
        echo "spark $version: FAILED" >&2
        failed="$failed $version"
    fi
done
[ -z "$failed" ] || { echo "does not compile for:$failed" >&2; exit 1; }
