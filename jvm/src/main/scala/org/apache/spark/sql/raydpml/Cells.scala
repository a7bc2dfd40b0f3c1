package org.apache.spark.sql.raydpml

import org.apache.spark.unsafe.Platform

/** Values of one column, each somewhere in an array of bytes. */
private[sql] abstract class Cells {
  def memory: Array[Byte]
  def count: Int

  /** Whether some of them are null. Their slots are zero, or have length 0. */
  def hasNull: Boolean
  def isNull(i: Int): Boolean

  /** Where a value of up to 8 bytes lies. */
  def slot(i: Int): Long

  /** Where a longer value begins. */
  def start(i: Int): Long

  def length(i: Int): Int
}

/** Values that are longer than a slot, at addresses that are known. */
private[raydpml] final class LyingCells extends Cells {
  private var starts: Array[Long] = _
  private var lengths: Array[Int] = _
  private var nulls: Array[Boolean] = _
  private var first = 0

  var memory: Array[Byte] = _
  var hasNull = false
  var count = 0

  def set(
      memory: Array[Byte],
      starts: Array[Long],
      lengths: Array[Int],
      nulls: Array[Boolean],
      first: Int,
      count: Int,
      hasNull: Boolean): Unit = {
    this.memory = memory
    this.starts = starts
    this.lengths = lengths
    this.nulls = nulls
    this.first = first
    this.count = count
    this.hasNull = hasNull
  }

  override def isNull(i: Int): Boolean = hasNull && nulls(first + i)
  override def slot(i: Int): Long = throw new UnsupportedOperationException("these values have no slots")
  override def start(i: Int): Long = starts(first + i)
  override def length(i: Int): Int = lengths(first + i)
}

/** Values as rows (UnsafeRow) and arrays (UnsafeArrayData) of Spark hold them.
  *
  * A value of up to 8 bytes lies in its slot. The slot of a longer one has its offset (high half) from the start of the row or array
  * around it, and its length (low half).
  */
private[raydpml] final class SlotCells extends Cells {
  private var places = new Array[Long](RowBlock.Rows)
  private var around = places
  private var nulls = new Array[Boolean](RowBlock.Rows)
  private var offset = 0L
  private var used = 0

  var memory: Array[Byte] = _
  var hasNull = false

  override def count: Int = used
  override def isNull(i: Int): Boolean = hasNull && nulls(i)
  override def slot(i: Int): Long = places(i) + offset
  override def start(i: Int): Long = around(i) + (Platform.getLong(memory, slot(i)) >>> 32)
  override def length(i: Int): Int = Platform.getLong(memory, slot(i)).toInt

  /** One field of rows, which share `starts`. */
  def setField(memory: Array[Byte], starts: Array[Long], count: Int, columns: Int, column: Int, mayBeNull: Boolean): Unit = {
    this.memory = memory
    places = starts
    around = starts
    used = count
    offset = Cells.bitsetBytes(columns) + 8L * column
    hasNull = mayBeNull
    if (mayBeNull) {
      if (nulls.length < count) nulls = new Array[Boolean](starts.length)
      val word = 8L * (column >> 6)
      var i = 0
      while (i < count) {
        nulls(i) = (Platform.getLong(memory, starts(i) + word) >>> (column & 63) & 1L) != 0
        i += 1
      }
    }
  }

  /** Before elements are added. */
  def clear(memory: Array[Byte]): Unit = {
    this.memory = memory
    if (around eq places) around = new Array[Long](places.length)
    offset = 0
    used = 0
    hasNull = false
  }

  /** The elements of an array, each `width` bytes wide. */
  def addElements(array: Long, width: Int): Int = {
    val more = Platform.getLong(memory, array).toInt
    reserve(Math.addExact(used, more))
    val bits = Cells.bitsetBytes(more)
    val first = array + 8 + bits
    var e = 0
    while (e < more) { places(used + e) = first + e.toLong * width; e += 1 }
    java.util.Arrays.fill(around, used, used + more, array)
    java.util.Arrays.fill(nulls, used, used + more, false)
    if (Cells.isAnySet(memory, array + 8, bits)) addNulls(array + 8, more)
    used += more
    more
  }

  private def addNulls(bits: Long, more: Int): Unit = {
    hasNull = true
    var e = 0
    while (e < more) {
      nulls(used + e) = (Platform.getLong(memory, bits + 8L * (e >> 6)) >>> (e & 63) & 1L) != 0
      e += 1
    }
  }

  private def reserve(size: Int): Unit = {
    if (size > math.min(places.length, nulls.length)) {
      val larger = math.max(size, 2 * places.length)
      places = java.util.Arrays.copyOf(places, larger)
      around = java.util.Arrays.copyOf(around, larger)
      nulls = java.util.Arrays.copyOf(nulls, larger)
    }
  }
}

/** Nulls of any type. */
private[raydpml] final class NullCells {
  private val nulls = new SlotCells
  private var starts = Array.empty[Long]

  def of(count: Int): Cells = {
    if (starts.length < count) starts = Array.fill(count)(NullRow.start(1))
    nulls.setField(NullCells.memory, starts, count, 1, 0, mayBeNull = true)
    nulls
  }
}

private object NullCells {
  private val memory = NullRow.inFrontOf(0)
}

private[raydpml] object Cells {

  /** A bit for each column or element that is set for null, in whole words. */
  def bitsetBytes(bits: Int): Long = (bits + 63L) / 64 * 8

  /** Whether some bit of whole words is set. */
  def isAnySet(memory: Array[Byte], bits: Long, bytes: Long): Boolean = {
    var w = 0
    while (w < bytes) {
      if (Platform.getLong(memory, bits + w) != 0) return true
      w += 8
    }
    false
  }
}
