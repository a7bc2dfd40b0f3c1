package org.apache.spark.sql.raydpml

import org.apache.spark.sql.catalyst.expressions.XXH64
import org.apache.spark.sql.types.DataType

/** A column whose values lie somewhere in an array of bytes, in the form in which rows hold them: encoders copy them from there. */
private[sql] final class CellsVector(kind: DataType) extends RefusingVector(kind) {
  private var memory: Array[Byte] = _
  private var starts = Array.empty[Long]
  private var lengths = Array.empty[Int]
  private var absent = Array.empty[Boolean]
  private var rows = 0
  private var nulls = 0
  private val some = new LyingCells

  /** Begins anew, for about so many values in an array. */
  def clear(memory: Array[Byte], expected: Int): Unit = {
    this.memory = memory
    if (starts.length < expected) {
      starts = new Array[Long](expected)
      lengths = new Array[Int](expected)
      absent = new Array[Boolean](expected)
    }
    if (nulls > 0) java.util.Arrays.fill(absent, false)
    rows = 0
    nulls = 0
  }

  /** The next value: its address within the array (Platform's) and its length. */
  def add(start: Long, length: Int): Unit = {
    starts(rows) = start
    lengths(rows) = length
    rows += 1
  }

  def addNull(): Unit = {
    absent(rows) = true
    nulls += 1
    // Readers look at the length before they see that there is no value.
    add(0L, 0)
  }

  /** Values of neighbouring rows, good until the next call. */
  def cells(from: Int, count: Int): Cells = {
    some.set(memory, starts, lengths, absent, from, count, hasNull)
    some
  }

  def bytes(from: Int, count: Int): Long = {
    var sum = 0L
    var i = from
    while (i < from + count) {
      sum += lengths(i)
      i += 1
    }
    sum
  }

  /** Mixes values into the hashes of their rows. Their bytes are the same whenever the values are (RowDigest). */
  def mix(hashes: Array[Long], from: Int, count: Int): Unit = {
    var i = 0
    while (i < count) {
      val value = if (absent(from + i)) RowDigest.NullMark else hash(from + i)
      hashes(i) = RowDigest.mix(hashes(i), value)
      i += 1
    }
  }

  private def hash(row: Int): Long = XXH64.hashUnsafeBytes(memory, starts(row), lengths(row), 42L)

  override def hasNull: Boolean = nulls > 0
  override def numNulls: Int = nulls
  override def isNullAt(row: Int): Boolean = absent(row)
}
