package org.apache.spark.sql.raydpml

import org.apache.spark.sql.catalyst.expressions.UnsafeRow
import org.apache.spark.unsafe.Platform

/** A few hundred rows copied side by side, small enough for the processor's cache, so that one column after the other can be read
  * from them in a tight loop.
  *
  * Row layout (org.apache.spark.sql.catalyst.expressions.UnsafeRow): a bit per column that is set for null, in whole 8-byte words;
  * then 8 bytes per column with the value, or offset (high half) and length (low half) of a value of variable length, counted from
  * the row's start.
  */
private[raydpml] final class RowBlock(columns: Int) {

  private val bitsetBytes = UnsafeRow.calculateBitSetWidthInBytes(columns)
  private val nullWords = new Array[Long](bitsetBytes / 8)
  private val starts = new Array[Long](RowBlock.Rows)
  private var used = 0
  private var count = 0

  /** The bytes of all rows. */
  var memory: Array[Byte] = new Array[Byte](RowBlock.Bytes)

  def rows: Int = count

  /** Copies a row; false when the block is full and has to be encoded first. */
  def add(row: UnsafeRow): Boolean = {
    val size = row.getSizeInBytes
    if (count == RowBlock.Rows || (used + size > memory.length && count > 0)) return false
    if (size > memory.length) memory = new Array[Byte](size)
    val start = Platform.BYTE_ARRAY_OFFSET.toLong + used
    Platform.copyMemory(row.getBaseObject, row.getBaseOffset, memory, start, size)
    var word = 0
    while (word < nullWords.length) {
      nullWords(word) |= Platform.getLong(memory, start + 8L * word)
      word += 1
    }
    starts(count) = start
    count += 1
    used += size
    true
  }

  def clear(): Unit = {
    count = 0
    used = 0
    java.util.Arrays.fill(nullWords, 0L)
  }

  /** Where row `i` starts in `memory`. */
  def start(i: Int): Long = starts(i)

  /** Offset of a column's 8 bytes from a row's start. */
  def field(column: Int): Long = bitsetBytes + 8L * column

  def hasNull(column: Int): Boolean = (nullWords(column >> 6) >>> (column & 63) & 1L) != 0

  def isNull(i: Int, column: Int): Boolean =
    (Platform.getLong(memory, starts(i) + 8L * (column >> 6)) >>> (column & 63) & 1L) != 0
}

private[raydpml] object RowBlock {
  /** A multiple of 8, so that bits of full blocks start at a byte. */
  val Rows = 1024
  val Bytes: Int = 256 << 10
}
