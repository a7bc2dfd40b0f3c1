package org.apache.spark.sql.raydpml

import org.apache.spark.sql.execution.vectorized.WritableColumnVector
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.ColumnVector
import org.apache.spark.unsafe.Platform

/** Values that have the same bytes in a row, in Spark's column vectors and in Arrow. */
private[raydpml] sealed abstract class FixedValues(val width: Int) {

  /** Copies values to an address; those of nulls become zeros. */
  final def copy(vector: ColumnVector, from: Int, count: Int, to: Long): Unit = vector match {
    case nullable if nullable.hasNull =>
      Platform.setMemory(null, to, count.toLong * width, 0.toByte)
      var i = 0
      while (i < count) {
        if (!nullable.isNullAt(from + i)) one(nullable, from + i, to + i.toLong * width)
        i += 1
      }
    case packed: AddressVector => packed.copy(from, count, width, to)
    // Its bulk methods would give the codes of the dictionary.
    case encoded: WritableColumnVector if encoded.hasDictionary =>
      var i = 0
      while (i < count) {
        one(encoded, from + i, to + i.toLong * width)
        i += 1
      }
    case plain => many(plain, from, count, to)
  }

  protected def one(vector: ColumnVector, at: Int, to: Long): Unit
  protected def many(vector: ColumnVector, from: Int, count: Int, to: Long): Unit
}

private[raydpml] object FixedValues {
  private object Longs extends FixedValues(8) {
    override def one(vector: ColumnVector, at: Int, to: Long): Unit = Platform.putLong(null, to, vector.getLong(at))
    override def many(vector: ColumnVector, from: Int, count: Int, to: Long): Unit =
      Platform.copyMemory(vector.getLongs(from, count), Platform.LONG_ARRAY_OFFSET, null, to, 8L * count)
  }

  private object Doubles extends FixedValues(8) {
    override def one(vector: ColumnVector, at: Int, to: Long): Unit = Platform.putDouble(null, to, vector.getDouble(at))
    override def many(vector: ColumnVector, from: Int, count: Int, to: Long): Unit =
      Platform.copyMemory(vector.getDoubles(from, count), Platform.DOUBLE_ARRAY_OFFSET, null, to, 8L * count)
  }

  private object Ints extends FixedValues(4) {
    override def one(vector: ColumnVector, at: Int, to: Long): Unit = Platform.putInt(null, to, vector.getInt(at))
    override def many(vector: ColumnVector, from: Int, count: Int, to: Long): Unit =
      Platform.copyMemory(vector.getInts(from, count), Platform.INT_ARRAY_OFFSET, null, to, 4L * count)
  }

  private object Floats extends FixedValues(4) {
    override def one(vector: ColumnVector, at: Int, to: Long): Unit = Platform.putFloat(null, to, vector.getFloat(at))
    override def many(vector: ColumnVector, from: Int, count: Int, to: Long): Unit =
      Platform.copyMemory(vector.getFloats(from, count), Platform.FLOAT_ARRAY_OFFSET, null, to, 4L * count)
  }

  private object Shorts extends FixedValues(2) {
    override def one(vector: ColumnVector, at: Int, to: Long): Unit = Platform.putShort(null, to, vector.getShort(at))
    override def many(vector: ColumnVector, from: Int, count: Int, to: Long): Unit =
      Platform.copyMemory(vector.getShorts(from, count), Platform.SHORT_ARRAY_OFFSET, null, to, 2L * count)
  }

  private object Bytes extends FixedValues(1) {
    override def one(vector: ColumnVector, at: Int, to: Long): Unit = Platform.putByte(null, to, vector.getByte(at))
    override def many(vector: ColumnVector, from: Int, count: Int, to: Long): Unit =
      Platform.copyMemory(vector.getBytes(from, count), Platform.BYTE_ARRAY_OFFSET, null, to, count)
  }

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
