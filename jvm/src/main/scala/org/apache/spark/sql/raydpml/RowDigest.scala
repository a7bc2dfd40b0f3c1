package org.apache.spark.sql.raydpml

import org.apache.spark.sql.catalyst.expressions.{UnsafeRow, XXH64}

/** Number and hashes of the rows of a partition, to prove that a recompute gave the same rows.
  *
  * `unordered` is a sum and so does not depend on the order of the rows; `ordered` does. Row hashes are XXH64 over the bytes of
  * the UnsafeRow, which pads with zeros and so is canonical.
  */
private[raydpml] class RowDigest {
  private var count = 0L
  private var sum = 0L
  private var chain = 0L

  def add(row: UnsafeRow): Unit = {
    val hash = XXH64.hashUnsafeWords(row.getBaseObject, row.getBaseOffset, row.getSizeInBytes, 42L)
    count += 1
    sum += hash
    chain = chain * 31 + hash
  }

  def rows: Long = count
  def unordered: String = java.lang.Long.toHexString(sum)
  def ordered: String = java.lang.Long.toHexString(chain)
}
