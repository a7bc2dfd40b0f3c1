package org.apache.spark.sql.raydpml

/** A column vector of strings or binary whose bytes lie one after the other: many values are copied at once. Nulls have none. */
private[sql] trait PackedBytes {

  /** Where the value of a row begins; that of the row after the last is where the last one ends. */
  def start(row: Int): Int

  /** Copies the bytes of rows to an address outside of the heap. */
  def copyBytes(from: Int, until: Int, to: Long): Unit
}
