package org.apache.spark.sql.raydpml

import org.apache.spark.sql.execution.vectorized.WritableColumnVector
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.ColumnVector
import org.apache.spark.unsafe.Platform

/** Values that have the same bytes in a row, in Spark's column vectors and in Arrow. */
private[raydpml] final class FixedValues private (val width: Int, arrayOffset: Long, one: FixedValues.One, array: FixedValues.Many) {

  /** Copies values to an address; those of nulls become zeros. */
  def copy(vector: ColumnVector, from: Int, count: Int, to: Long): Unit = vector match {
    case nullable if nullable.hasNull =>
      Platform.setMemory(null, to, count.toLong * width, 0.toByte)
      var i = 0
      while (i < count) {
        if (!nullable.isNullAt(from + i)) one.put(nullable, from + i, to + i.toLong * width)
        i += 1
      }
    case packed: AddressVector => packed.copy(from, count, width, to)
    // Its bulk methods would give the codes of the dictionary.
    case encoded: WritableColumnVector if encoded.hasDictionary =>
      var i = 0
      while (i < count) {
        one.put(encoded, from + i, to + i.toLong * width)
        i += 1
      }
    case plain => Platform.copyMemory(array.of(plain, from, count), arrayOffset, null, to, count.toLong * width)
  }
}

private[raydpml] object FixedValues {
  /** Puts the value of a row to an address. */
  private trait One { def put(vector: ColumnVector, at: Int, to: Long): Unit }

  /** Values of some rows as an array. */
  private trait Many { def of(vector: ColumnVector, from: Int, count: Int): AnyRef }

  private val Longs = new FixedValues(
    8, Platform.LONG_ARRAY_OFFSET, (vector, at, to) => Platform.putLong(null, to, vector.getLong(at)), _.getLongs(_, _))
  val Doubles = new FixedValues(
    8, Platform.DOUBLE_ARRAY_OFFSET, (vector, at, to) => Platform.putDouble(null, to, vector.getDouble(at)), _.getDoubles(_, _))
  val Ints = new FixedValues(
    4, Platform.INT_ARRAY_OFFSET, (vector, at, to) => Platform.putInt(null, to, vector.getInt(at)), _.getInts(_, _))
  private val Floats = new FixedValues(
    4, Platform.FLOAT_ARRAY_OFFSET, (vector, at, to) => Platform.putFloat(null, to, vector.getFloat(at)), _.getFloats(_, _))
  private val Shorts = new FixedValues(
    2, Platform.SHORT_ARRAY_OFFSET, (vector, at, to) => Platform.putShort(null, to, vector.getShort(at)), _.getShorts(_, _))
  private val Bytes = new FixedValues(
    1, Platform.BYTE_ARRAY_OFFSET, (vector, at, to) => Platform.putByte(null, to, vector.getByte(at)), _.getBytes(_, _))

  /** Of a type; none where values have other bytes, or no fixed number of them. */
  def of(kind: DataType): Option[FixedValues] = kind match {
    case LongType | TimestampType | TimestampNTZType | _: DayTimeIntervalType => Some(Longs)
    // TimeType, which Spark has from 4.1 on.
    case time if time.typeName.startsWith("time(") => Some(Longs)
    case DoubleType => Some(Doubles)
    case IntegerType | DateType => Some(Ints)
    case FloatType => Some(Floats)
    case ShortType => Some(Shorts)
    case ByteType => Some(Bytes)
    case _ => None
  }

  /** For patterns. */
  def unapply(kind: DataType): Option[FixedValues] = of(kind)
}
