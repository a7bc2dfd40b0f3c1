package org.apache.spark.sql.raydpml

import org.apache.arrow.vector.{BaseFixedWidthVector, BaseVariableWidthVector, BitVector, DecimalVector, FieldVector}

import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.{ArrowColumnVector, ColumnVector, ColumnarArray, ColumnarMap}
import org.apache.spark.unsafe.Platform
import org.apache.spark.unsafe.types.UTF8String

/** Reads an Arrow vector at its addresses.
  *
  * Spark's ArrowColumnVector asks a different accessor per type, and Arrow checks each access; that took most of the time of a sum. Here
  * all columns have one class, so that the JIT compiler can inline what a query reads. The vector's owner keeps its memory.
  */
private[raydpml] final class AddressVector(kind: DataType, nulls: Int, validity: Long, values: Long, offsets: Long)
  extends ColumnVector(kind) {

  override def hasNull: Boolean = nulls > 0
  override def numNulls: Int = nulls
  override def isNullAt(row: Int): Boolean = nulls > 0 && !bit(validity, row)

  override def getBoolean(row: Int): Boolean = bit(values, row)
  override def getByte(row: Int): Byte = Platform.getByte(null, values + row)
  override def getShort(row: Int): Short = Platform.getShort(null, values + 2L * row)
  override def getInt(row: Int): Int = Platform.getInt(null, values + 4L * row)
  override def getLong(row: Int): Long = Platform.getLong(null, values + 8L * row)
  override def getFloat(row: Int): Float = Platform.getFloat(null, values + 4L * row)
  override def getDouble(row: Int): Double = Platform.getDouble(null, values + 8L * row)

  override def getUTF8String(row: Int): UTF8String =
    if (isNullAt(row)) null else UTF8String.fromAddress(null, values + offset(row), offset(row + 1) - offset(row))

  override def getBinary(row: Int): Array[Byte] =
    if (isNullAt(row)) {
      null
    } else {
      val bytes = new Array[Byte](offset(row + 1) - offset(row))
      Platform.copyMemory(null, values + offset(row), bytes, Platform.BYTE_ARRAY_OFFSET, bytes.length)
      bytes
    }

  private def offset(row: Int): Int = Platform.getInt(null, offsets + 4L * row)
  private def bit(bits: Long, row: Int): Boolean = (Platform.getByte(null, bits + (row >> 3)) >> (row & 7) & 1) != 0

  private def notThese: Nothing = throw new UnsupportedOperationException(s"not for a column of type ${kind.sql}")
  override def getDecimal(row: Int, precision: Int, scale: Int): Decimal = notThese
  override def getArray(row: Int): ColumnarArray = notThese
  override def getMap(row: Int): ColumnarMap = notThese
  override def getChild(ordinal: Int): ColumnVector = notThese
  override def close(): Unit = ()
}

private[raydpml] object AddressVector {

  /** A column of Arrow for Spark; decimals and nested types are read by Spark's own class. */
  def of(vector: FieldVector, kind: DataType): ColumnVector = (vector, kind) match {
    case (bits: BitVector, BooleanType) => fixed(bits, kind)
    case (_: DecimalVector, _) => new ArrowColumnVector(vector)
    case (plain: BaseFixedWidthVector, FixedValues(values)) if plain.getTypeWidth == values.width => fixed(plain, kind)
    case (bytes: BaseVariableWidthVector, StringType | BinaryType) =>
      val (data, offsets) = (bytes.getDataBuffer, bytes.getOffsetBuffer)
      new AddressVector(kind, bytes.getNullCount, bytes.getValidityBuffer.memoryAddress, data.memoryAddress, offsets.memoryAddress)
    case _ => new ArrowColumnVector(vector)
  }

  private def fixed(vector: BaseFixedWidthVector, kind: DataType): AddressVector = new AddressVector(
    kind, vector.getNullCount, vector.getValidityBuffer.memoryAddress, vector.getDataBuffer.memoryAddress, 0L)
}
