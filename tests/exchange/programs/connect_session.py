"""Frames of Spark Connect, whose server is a JVM that this process does not reach, become Ray Datasets."""

from local_session import main
from pyspark.sql import SparkSession

if __name__ == "__main__":
    main(SparkSession.builder.remote("local[2]"))
