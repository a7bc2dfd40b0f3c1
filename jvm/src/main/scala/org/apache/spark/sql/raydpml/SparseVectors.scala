package org.apache.spark.sql.raydpml

import org.apache.arrow.vector.complex.StructVector

import org.apache.spark.ml.linalg.VectorUDT
import org.apache.spark.sql.execution.vectorized.ConstantColumnVector
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.{ArrowColumnVector, ColumnVector}

/** Sparse vectors of Arrow (ArrowSchema.scala) as the structs that Spark ML reads: those have the kind of the vector in front. */
private[sql] final class SparseVectors(held: StructVector) extends RefusingVector(new VectorUDT) {
  private val parts = new ArrowColumnVector(held)

  override def getChild(ordinal: Int): ColumnVector =
    if (ordinal == 0) SparseVectors.Kind else parts.getChild(ordinal - 1)
  override def hasNull: Boolean = parts.hasNull
  override def numNulls: Int = parts.numNulls
  override def isNullAt(row: Int): Boolean = parts.isNullAt(row)
  override def close(): Unit = parts.close()
}

private object SparseVectors {
  /** The byte 0, which says sparse, in each row. */
  private val Kind: ColumnVector = {
    val zero = new ConstantColumnVector(1, ByteType)
    zero.setByte(0)
    zero
  }
}
