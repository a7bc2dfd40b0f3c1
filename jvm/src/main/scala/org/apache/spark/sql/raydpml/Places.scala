package org.apache.spark.sql.raydpml

import org.apache.spark.sql.execution.vectorized.WritableColumnVector
import org.apache.spark.sql.vectorized.ColumnVector

/** A column of arrays or maps whose elements lie in other columns: those of Spark's Parquet reader, and of blocks of Ray
  * (NestedVectors.scala).
  */
private[raydpml] trait Places {

  /** The column of an array's elements, or of a map's keys (0) and values (1). */
  def getChild(ordinal: Int): ColumnVector
  def first(row: Int): Int
  def length(row: Int): Int

  final def elements: ColumnVector = getChild(0)
}

private[raydpml] object Places {

  def of(vector: ColumnVector): Places = vector match {
    case ours: Places => ours
    case writable: WritableColumnVector => new OfSpark(writable)
    case other => throw new IllegalStateException(s"arrays and maps come as ${other.getClass.getName}, which are taken by rows only")
  }

  private final class OfSpark(vector: WritableColumnVector) extends Places {
    override def getChild(ordinal: Int): ColumnVector = vector.getChild(ordinal)
    override def first(row: Int): Int = vector.getArrayOffset(row)
    override def length(row: Int): Int = vector.getArrayLength(row)
  }
}
