package org.apache.spark.sql.raydpml

import org.apache.spark.sql.catalyst.expressions.UnsafeRow
import org.apache.spark.sql.types.{ArrayType, DataType, MapType, StructType}
import org.apache.spark.unsafe.Platform

/** Where rows begin in an array of bytes, to read one column of them after the other.
  *
  * Row layout (org.apache.spark.sql.catalyst.expressions.UnsafeRow): a bit per column that is set for null, in whole 8-byte words;
  * then a slot of 8 bytes per column ([[Cells]]).
  */
private[raydpml] final class RowStarts(columns: Int) {
  private val nullWords = new Array[Long]((Cells.bitsetBytes(columns) / 8).toInt)
  private var starts = new Array[Long](RowBlock.Rows)
  private val reused = new SlotCells
  private var used = 0

  def count: Int = used

  def add(memory: Array[Byte], start: Long): Unit = {
    if (used == starts.length) starts = java.util.Arrays.copyOf(starts, 2 * used)
    var word = 0
    while (word < nullWords.length) {
      nullWords(word) |= Platform.getLong(memory, start + 8L * word)
      word += 1
    }
    starts(used) = start
    used += 1
  }

  def clear(): Unit = {
    used = 0
    java.util.Arrays.fill(nullWords, 0L)
  }

  /** A column's values, good until the next call. */
  def cells(memory: Array[Byte], column: Int): Cells = {
    reused.setField(memory, starts, used, columns, column, (nullWords(column >> 6) >>> (column & 63) & 1L) != 0)
    reused
  }
}

/** A few hundred rows copied side by side, small enough for the processor's cache, so that one column after the other can be read
  * from them in a tight loop.
  */
private[raydpml] final class RowBlock(schema: StructType) {
  private val rowStarts = new RowStarts(schema.length)
  private var memory = NullRow.inFrontOf(RowBlock.Bytes)
  private var used = NullRow.Bytes

  def rows: Int = rowStarts.count

  /** Copies a row; false when the block is full and has to be encoded first. */
  def add(row: UnsafeRow): Boolean = {
    val size = row.getSizeInBytes
    if (rows == RowBlock.Rows || (used + size > memory.length && rows > 0)) return false
    if (used + size > memory.length) memory = NullRow.inFrontOf(size)
    val start = Platform.BYTE_ARRAY_OFFSET.toLong + used
    Platform.copyMemory(row.getBaseObject, row.getBaseOffset, memory, start, size)
    rowStarts.add(memory, start)
    used += size
    true
  }

  def clear(): Unit = {
    rowStarts.clear()
    used = NullRow.Bytes
  }

  def cells(column: Int): Cells = rowStarts.cells(memory, column)
}

private[raydpml] object RowBlock {
  /** A multiple of 8, so that bits of full blocks start at a byte. */
  val Rows = 1024
  val Bytes: Int = 256 << 10
}

/** A row whose columns are all null, in front of the rows of a block: what a struct that is null consists of. */
private[sql] object NullRow {
  /** Of a struct. */
  val MostColumns = 1024
  private val Words = MostColumns / 64
  val Bytes: Int = 8 * (Words + MostColumns)

  /** Whether values of a type have structs in them. The parts of ML vectors are never read where a vector is null. */
  def isNeeded(kind: DataType): Boolean = kind match {
    case _: StructType => true
    case ArrayType(element, _) => isNeeded(element)
    case MapType(key, value, _) => isNeeded(key) || isNeeded(value)
    case _ => false
  }

  def inFrontOf(bytes: Int): Array[Byte] = {
    val memory = new Array[Byte](Bytes + bytes)
    java.util.Arrays.fill(memory, 0, 8 * Words, 0xff.toByte)
    memory
  }

  /** Where it begins for a struct of so many columns. */
  def start(columns: Int): Long = Platform.BYTE_ARRAY_OFFSET + 8L * Words - Cells.bitsetBytes(columns)
}
