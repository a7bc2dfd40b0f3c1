package org.apache.spark.sql.raydpml

import org.apache.arrow.vector.complex.StructVector

import org.apache.spark.ml.linalg.VectorUDT
import org.apache.spark.sql.execution.vectorized.ConstantColumnVector
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.{ArrowColumnVector, ColumnVector, ColumnarArray, ColumnarMap}
import org.apache.spark.unsafe.types.UTF8String

/** Sparse vectors of Arrow (ArrowSchema.scala) as the structs that Spark ML reads: those have the kind of the vector in front. */
private[sql] final class SparseVectors(held: StructVector) extends ColumnVector(new VectorUDT) {
  private val parts = new ArrowColumnVector(held)

  override def getChild(ordinal: Int): ColumnVector =
    if (ordinal == 0) SparseVectors.Kind else parts.getChild(ordinal - 1)
  override def hasNull: Boolean = parts.hasNull
  override def numNulls: Int = parts.numNulls
  override def isNullAt(row: Int): Boolean = parts.isNullAt(row)
  override def close(): Unit = parts.close()

  override def getBoolean(row: Int): Boolean = SparseVectors.refuse
  override def getByte(row: Int): Byte = SparseVectors.refuse
  override def getShort(row: Int): Short = SparseVectors.refuse
  override def getInt(row: Int): Int = SparseVectors.refuse
  override def getLong(row: Int): Long = SparseVectors.refuse
  override def getFloat(row: Int): Float = SparseVectors.refuse
  override def getDouble(row: Int): Double = SparseVectors.refuse
  override def getArray(row: Int): ColumnarArray = SparseVectors.refuse
  override def getMap(row: Int): ColumnarMap = SparseVectors.refuse
  override def getDecimal(row: Int, precision: Int, scale: Int): Decimal = SparseVectors.refuse
  override def getUTF8String(row: Int): UTF8String = SparseVectors.refuse
  override def getBinary(row: Int): Array[Byte] = SparseVectors.refuse
}

private object SparseVectors {
  private def refuse: Nothing = throw new UnsupportedOperationException("a vector is read as a struct")

  /** The byte 0, which says sparse, in each row. */
  private val Kind: ColumnVector = {
    val zero = new ConstantColumnVector(1, ByteType)
    zero.setByte(0)
    zero
  }
}
