package org.apache.spark.sql.raydpml

import org.apache.spark.sql.catalyst.expressions.{UnsafeRow, XXH64}

/** Number and hashes of the rows of a partition, to prove that a recompute gave the same rows.
  *
  * `unordered` is a sum and so does not depend on the order of the rows; `ordered` does. A partition that comes as rows is always
  * hashed as rows, one that comes as columns always as columns, so the two kinds of hashes need not agree.
  */
private[raydpml] class RowDigest {
  private var count = 0L
  private var sum = 0L
  private var chain = 0L

  /** XXH64 over the bytes of the UnsafeRow, which pads with zeros and so is canonical. */
  def add(row: UnsafeRow): Unit =
    add(XXH64.hashUnsafeWords(row.getBaseObject, row.getBaseOffset, row.getSizeInBytes, 42L))

  def add(hash: Long): Unit = {
    count += 1
    sum += hash
    chain = chain * 31 + hash
  }

  def rows: Long = count
  def unordered: String = java.lang.Long.toHexString(sum)
  def ordered: String = java.lang.Long.toHexString(chain)
}

private[raydpml] object RowDigest {
  /** Stands for a null. */
  val NullMark = 0x6e756c6cL

  /** A row's hash with one more value: xor, multiply by 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4), fold. */
  def mix(hash: Long, value: Long): Long = {
    val product = (hash ^ value) * 0x9e3779b97f4a7c15L
    product ^ (product >>> 32)
  }
}
