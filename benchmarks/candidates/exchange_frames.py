"""The frames that cross, and a query for each that reads all of its columns."""

DOUBLES = [f"d{i}" for i in range(10)]
FLOATS = [f"f{i}" for i in range(100)]
STRINGS = [f"s{i}" for i in range(5)]
# 128 numbers of a row, from hashes: random functions may not stand inside transform.
NUMBERS = "transform(sequence(0, 127), x -> hash(id, x) / 2147483648D)"

COLUMNS = {
    "rows": [
        *(f"rand({i}) as {name}" for i, name in enumerate(DOUBLES)),
        "cast(id % 1000 as int) as i",
        "concat('s', id % 1000) as s",
    ],
    # Costs Spark little: for sizes that no cache holds.
    "computed": [*(f"id * {i + 0.5}D as {name}" for i, name in enumerate(DOUBLES)), "id", "id % 1000 as i"],
    "floats": [f"cast(hash(id, {i}) as float) as {name}" for i, name in enumerate(FLOATS)],
    "vector": [f"{NUMBERS} as v"],
    "strings": [
        f"substr(repeat(md5(concat(id, '{name}')), 7), 1, cast(100 + id % 100 as int)) as {name}" for name in STRINGS
    ],
    "nested": [
        "named_struct('a', id, 'b', id * 0.5D, 'c', concat('c', id)) as st",
        "transform(sequence(0, 19), x -> named_struct('k', x, 'v', id * x)) as arr",
        "map_from_arrays(transform(sequence(0, 9), x -> concat('k', x)), transform(sequence(0, 9), x -> id * x)) as m",
    ],
    # 30 words of a row, which become the indices of a sparse vector.
    "sparse": ["transform(sequence(1, 30), x -> string(hash(id, x))) as words"],
}
QUERIES = {
    "rows": [*(f"sum({name})" for name in DOUBLES), "sum(i)", "sum(length(s))"],
    "computed": [*(f"sum({name})" for name in DOUBLES), "sum(id)", "sum(i)"],
    "floats": [f"sum({name})" for name in FLOATS],
    "vector": ["sum(aggregate(v, 0D, (total, x) -> total + x))"],
    "strings": [f"sum(length({name}))" for name in STRINGS],
    "nested": ["sum(st.a)", "sum(st.b)", "sum(length(st.c))", "sum(size(arr))", "sum(size(m))"],
}


def frame_of(spark, schema, rows, partitions):
    frame = spark.range(0, rows, 1, partitions).selectExpr(*COLUMNS[schema])
    if schema == "vector":
        from pyspark.ml.functions import array_to_vector

        frame = frame.select(array_to_vector("v").alias("v"))
    if schema == "sparse":
        from pyspark.ml.feature import HashingTF

        frame = HashingTF(inputCol="words", outputCol="v", numFeatures=2**18).transform(frame).select("v")
    return frame


def query_of(schema):
    return QUERIES[schema]


def consumed_by_spark(frame, schema):
    """The query of a schema over Spark's own frame. ML vectors are structs there, and arrays when they come from Ray."""
    if schema == "vector":
        from pyspark.ml.functions import vector_to_array

        frame = frame.select(vector_to_array("v").alias("v"))
    return frame.selectExpr(*query_of(schema))
