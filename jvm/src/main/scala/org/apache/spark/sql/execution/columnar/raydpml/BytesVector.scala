package org.apache.spark.sql.execution.columnar.raydpml

import org.apache.spark.sql.raydpml.PackedBytes
import org.apache.spark.sql.types.{DataType, Decimal}
import org.apache.spark.sql.vectorized.{ColumnVector, ColumnarArray, ColumnarMap}
import org.apache.spark.unsafe.Platform
import org.apache.spark.unsafe.types.UTF8String

/** Strings or binary, one after the other in one array: a vector that is quick to fill. */
private class BytesVector(kind: DataType) extends ColumnVector(kind) with PackedBytes {
  private var data = new Array[Byte](64 << 10)
  private var ends = Array.empty[Int]
  private var absent = Array.empty[Boolean]
  private var rows = 0
  private var nulls = 0

  def clear(expected: Int): Unit = {
    if (ends.length < expected) {
      ends = new Array[Int](expected)
      absent = new Array[Boolean](expected)
    }
    if (nulls > 0) java.util.Arrays.fill(absent, false)
    rows = 0
    nulls = 0
  }

  def append(from: Array[Byte], place: Int, length: Int): Unit = {
    val at = start(rows)
    if (at + length > data.length) {
      val wanted = Math.addExact(at, length)
      data = java.util.Arrays.copyOf(data, math.max(wanted.toLong, math.min(2L * data.length, BytesVector.Longest)).toInt)
    }
    System.arraycopy(from, place, data, at, length)
    ends(rows) = at + length
    rows += 1
  }

  def appendNull(): Unit = {
    ends(rows) = start(rows)
    absent(rows) = true
    rows += 1
    nulls += 1
  }

  override def start(row: Int): Int = if (row == 0) 0 else ends(row - 1)
  override def copyBytes(from: Int, until: Int, to: Long): Unit =
    Platform.copyMemory(data, Platform.BYTE_ARRAY_OFFSET + start(from), null, to, start(until) - start(from))

  override def getUTF8String(row: Int): UTF8String = UTF8String.fromBytes(data, start(row), ends(row) - start(row))
  override def getBinary(row: Int): Array[Byte] = java.util.Arrays.copyOfRange(data, start(row), ends(row))
  override def hasNull: Boolean = nulls > 0
  override def numNulls: Int = nulls
  override def isNullAt(row: Int): Boolean = absent(row)
  override def close(): Unit = ()

  private def notThese: Nothing = throw new UnsupportedOperationException(s"a column of type ${kind.sql} holds bytes")
  override def getBoolean(row: Int): Boolean = notThese
  override def getByte(row: Int): Byte = notThese
  override def getShort(row: Int): Short = notThese
  override def getInt(row: Int): Int = notThese
  override def getLong(row: Int): Long = notThese
  override def getFloat(row: Int): Float = notThese
  override def getDouble(row: Int): Double = notThese
  override def getDecimal(row: Int, precision: Int, scale: Int): Decimal = notThese
  override def getArray(row: Int): ColumnarArray = notThese
  override def getMap(row: Int): ColumnarMap = notThese
  override def getChild(ordinal: Int): ColumnVector = notThese
}

private object BytesVector {
  private val Longest = (Int.MaxValue - 16).toLong
}
