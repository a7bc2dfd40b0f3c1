package org.apache.spark.sql.raydpml

import org.apache.spark.sql.types.{DataType, Decimal}
import org.apache.spark.sql.vectorized.{ColumnVector, ColumnarArray, ColumnarMap}
import org.apache.spark.unsafe.types.UTF8String

/** A column vector that is read in few ways; a subclass has those. It owns no memory. */
private[sql] abstract class RefusingVector(kind: DataType) extends ColumnVector(kind) {
  private def refuse: Nothing = throw new UnsupportedOperationException(s"not for a column of type ${kind.sql}")

  override def getBoolean(row: Int): Boolean = refuse
  override def getByte(row: Int): Byte = refuse
  override def getShort(row: Int): Short = refuse
  override def getInt(row: Int): Int = refuse
  override def getLong(row: Int): Long = refuse
  override def getFloat(row: Int): Float = refuse
  override def getDouble(row: Int): Double = refuse
  override def getDecimal(row: Int, precision: Int, scale: Int): Decimal = refuse
  override def getUTF8String(row: Int): UTF8String = refuse
  override def getBinary(row: Int): Array[Byte] = refuse
  override def getArray(row: Int): ColumnarArray = refuse
  override def getMap(row: Int): ColumnarMap = refuse
  override def getChild(ordinal: Int): ColumnVector = refuse
  override def close(): Unit = ()
}
