package org.apache.spark.sql.raydpml

import org.apache.spark.sql.vectorized.ColumnVector

/** An encoder that takes Spark's column vectors as well as rows. */
private[raydpml] trait VectorTaker {

  /** Like those of rows, the values of nulls are zeros or empty. */
  def append(vector: ColumnVector, from: Int, count: Int): Unit

  /** Mixes this column into the hashes of the `count` rows that were appended last. */
  def mix(hashes: Array[Long], count: Int): Unit

  /** Bytes of the values so far, near enough to cut blocks by. */
  def bytes: Long
}
