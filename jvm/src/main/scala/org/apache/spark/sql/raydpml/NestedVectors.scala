package org.apache.spark.sql.raydpml

import org.apache.arrow.vector.FieldVector

import org.apache.spark.sql.types.DataType
import org.apache.spark.sql.vectorized.{ColumnVector, ColumnarArray, ColumnarMap}
import org.apache.spark.unsafe.Platform
import org.apache.spark.unsafe.types.UTF8String

/** A column of Arrow whose values are found through others ([[AddressVector]]). */
private[raydpml] abstract class OuterVector(vector: FieldVector, kind: DataType) extends RefusingVector(kind) {
  private val nulls = vector.getNullCount
  private val validity = vector.getValidityBuffer.memoryAddress

  override def hasNull: Boolean = nulls > 0
  override def numNulls: Int = nulls
  override def isNullAt(row: Int): Boolean =
    nulls > 0 && (Platform.getByte(null, validity + (row >> 3)) >> (row & 7) & 1) == 0
}

/** Where the values of rows begin and end: offsets of 4 or of 8 bytes. */
private[raydpml] final class Offsets(address: Long, wide: Boolean) {
  def start(row: Int): Long = if (wide) Platform.getLong(null, address + 8L * row) else Platform.getInt(null, address + 4L * row)
  def length(row: Int): Int = (start(row + 1) - start(row)).toInt
}

private[raydpml] final class Structs(vector: FieldVector, kind: DataType, parts: Array[ColumnVector])
  extends OuterVector(vector, kind) {
  override def getChild(ordinal: Int): ColumnVector = parts(ordinal)
}

/** Lists and large lists; as Spark counts elements with an Int, those of a block are fewer than 2^31. */
private[raydpml] final class Lists(vector: FieldVector, kind: DataType, offsets: Offsets, values: ColumnVector)
  extends OuterVector(vector, kind) with Places {
  override def first(row: Int): Int = offsets.start(row).toInt
  override def length(row: Int): Int = offsets.length(row)
  override def getArray(row: Int): ColumnarArray =
    if (isNullAt(row)) null else new ColumnarArray(values, first(row), length(row))
  override def getChild(ordinal: Int): ColumnVector = values
}

/** Lists of one length, tensors among them. */
private[raydpml] final class FixedLists(vector: FieldVector, kind: DataType, size: Int, values: ColumnVector)
  extends OuterVector(vector, kind) with Places {
  override def first(row: Int): Int = row * size
  override def length(row: Int): Int = size
  override def getArray(row: Int): ColumnarArray = if (isNullAt(row)) null else new ColumnarArray(values, first(row), size)
  override def getChild(ordinal: Int): ColumnVector = values
}

private[raydpml] final class Maps(
    vector: FieldVector,
    kind: DataType,
    offsets: Offsets,
    keys: ColumnVector,
    values: ColumnVector)
  extends OuterVector(vector, kind) with Places {
  override def first(row: Int): Int = offsets.start(row).toInt
  override def length(row: Int): Int = offsets.length(row)
  override def getMap(row: Int): ColumnarMap =
    if (isNullAt(row)) null else new ColumnarMap(keys, values, first(row), length(row))
  override def getChild(ordinal: Int): ColumnVector = if (ordinal == 0) keys else values
}

/** Strings and binary with offsets of 8 bytes. */
private[raydpml] final class LargeBytes(vector: FieldVector, kind: DataType, offsets: Offsets, data: Long)
  extends OuterVector(vector, kind) {
  override def getUTF8String(row: Int): UTF8String =
    if (isNullAt(row)) null else UTF8String.fromAddress(null, data + offsets.start(row), offsets.length(row))
  override def getBinary(row: Int): Array[Byte] =
    if (isNullAt(row)) {
      null
    } else {
      val bytes = new Array[Byte](offsets.length(row))
      Platform.copyMemory(null, data + offsets.start(row), bytes, Platform.BYTE_ARRAY_OFFSET, bytes.length)
      bytes
    }
}

/** Values that are named by their places in a dictionary; those are never negative, whatever their type. */
private[raydpml] final class DictionaryVector(indices: FieldVector, width: Int, kind: DataType, dictionary: ColumnVector)
  extends OuterVector(indices, kind) {
  private val places = indices.getDataBuffer.memoryAddress

  private def place(row: Int): Int = width match {
    case 1 => Platform.getByte(null, places + row) & 0xff
    case 2 => Platform.getShort(null, places + 2L * row) & 0xffff
    case 4 => Platform.getInt(null, places + 4L * row)
    case 8 => Platform.getLong(null, places + 8L * row).toInt
  }

  override def hasNull: Boolean = super.hasNull || dictionary.hasNull
  override def numNulls: Int = (0 until indices.getValueCount).count(row => isNullAt(row))
  override def isNullAt(row: Int): Boolean = super.isNullAt(row) || (dictionary.hasNull && dictionary.isNullAt(place(row)))
  override def getBoolean(row: Int): Boolean = dictionary.getBoolean(place(row))
  override def getByte(row: Int): Byte = dictionary.getByte(place(row))
  override def getShort(row: Int): Short = dictionary.getShort(place(row))
  override def getInt(row: Int): Int = dictionary.getInt(place(row))
  override def getLong(row: Int): Long = dictionary.getLong(place(row))
  override def getFloat(row: Int): Float = dictionary.getFloat(place(row))
  override def getDouble(row: Int): Double = dictionary.getDouble(place(row))
  override def getUTF8String(row: Int): UTF8String = if (isNullAt(row)) null else dictionary.getUTF8String(place(row))
  override def getBinary(row: Int): Array[Byte] = if (isNullAt(row)) null else dictionary.getBinary(place(row))
}
