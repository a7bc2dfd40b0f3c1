package org.apache.spark.sql.raydpml

import org.apache.spark.sql.execution.vectorized.WritableColumnVector
import org.apache.spark.sql.vectorized.ColumnVector

/** A column of arrays whose elements lie in another column: those of Spark's Parquet reader, and of blocks of Ray ([[Lists]]). */
private[raydpml] trait ArrayPlaces {
  def elements: ColumnVector
  def first(row: Int): Int
  def length(row: Int): Int
}

private[raydpml] object ArrayPlaces {

  def of(vector: ColumnVector): ArrayPlaces = vector match {
    case ours: ArrayPlaces => ours
    case writable: WritableColumnVector => new OfSpark(writable)
    case other => throw new IllegalStateException(s"arrays come as ${other.getClass.getName}, which are taken by rows only")
  }

  private final class OfSpark(vector: WritableColumnVector) extends ArrayPlaces {
    override val elements: ColumnVector = vector.getChild(0)
    override def first(row: Int): Int = vector.getArrayOffset(row)
    override def length(row: Int): Int = vector.getArrayLength(row)
  }
}
