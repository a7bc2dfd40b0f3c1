package org.apache.spark.sql.raydpml

import org.apache.arrow.vector.complex.StructVector

import org.apache.spark.ml.linalg.VectorUDT
import org.apache.spark.sql.execution.vectorized.ConstantColumnVector
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.ColumnVector

/** Sparse vectors of Arrow (ArrowSchema.scala) as the structs that Spark ML reads: those have the kind of the vector in front. */
private[raydpml] final class SparseVectors(held: StructVector) extends OuterVector(held, new VectorUDT) {
  private val parts = SparseVectors.Kind +: SparseVectors.Parts.zipWithIndex.map { case (kind, i) => AddressVector.part(held, i, kind) }

  override def getChild(ordinal: Int): ColumnVector = parts(ordinal)
}

private object SparseVectors {
  /** Size, indices and values. */
  private val Parts = IndexedSeq(IntegerType, ArrayType(IntegerType, containsNull = false), ArrayType(DoubleType, containsNull = false))

  /** The byte 0, which says sparse, in each row. */
  private val Kind: ColumnVector = {
    val zero = new ConstantColumnVector(1, ByteType)
    zero.setByte(0)
    zero
  }
}
