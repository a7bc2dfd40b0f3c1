package org.apache.spark.sql.raydpml

import scala.collection.JavaConverters._

import org.apache.arrow.vector.types.pojo.{Field, FieldType, Schema}

import org.apache.spark.ml.linalg.VectorUDT
import org.apache.spark.sql.types._
import org.apache.spark.sql.util.ArrowUtils

/** The Arrow schema of a frame that crosses: Spark's own for all types that Spark maps, and for ML vectors one of two forms. */
private[raydpml] object ArrowSchema {

  /** raydp_ml/exchange/sparse.py knows a column of sparse vectors by this. */
  private val SparseMark = Map("raydp_ml.vector" -> "sparse").asJava

  /** Names and types are those of raydp_ml/exchange/sparse.py. */
  private val SparseVector = StructType(Seq(
    StructField("size", IntegerType, nullable = false),
    StructField("indices", ArrayType(IntegerType, containsNull = false), nullable = false),
    StructField("values", ArrayType(DoubleType, containsNull = false), nullable = false)))

  private val DenseVector = ArrayType(DoubleType, containsNull = false)

  def of(schema: StructType, timeZone: String, sparse: Boolean): Schema = {
    val plain = schema.map(field => field.copy(dataType = field.dataType match {
      case _: VectorUDT => if (sparse) SparseVector else DenseVector
      case other => other
    }))
    val arrow = ArrowUtils.toArrowSchema(StructType(plain), timeZone, true, false)
    new Schema(schema.map(_.dataType).zip(arrow.getFields.asScala).map {
      case (_: VectorUDT, field) if sparse =>
        new Field(field.getName, new FieldType(field.isNullable, field.getType, null, SparseMark), field.getChildren)
      case (_, field) => field
    }.asJava)
  }
}
