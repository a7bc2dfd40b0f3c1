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

  /** The keys of `map()` are of no type, and Arrow wants keys that are not null: as there are none, they may be strings. */
  def keyOf(kind: DataType): DataType = if (kind == NullType) StringType else kind

  private val DenseVector = ArrayType(DoubleType, containsNull = false)

  def of(schema: StructType, timeZone: String, sparse: Boolean): Schema = {
    val vector = if (sparse) SparseVector else DenseVector
    val plain = mapped(schema, vector).asInstanceOf[StructType]
    val arrow = ArrowUtils.toArrowSchema(plain, timeZone, true, false)
    new Schema(schema.map(_.dataType).zip(arrow.getFields.asScala).map {
      case (_: VectorUDT, field) if sparse =>
        new Field(field.getName, new FieldType(field.isNullable, field.getType, null, SparseMark), field.getChildren)
      case (_, field) => field
    }.asJava)
  }

  /** Types that Spark maps, and that pyarrow takes: the elements of `array()` are of no type, which Arrow wants to be nullable. */
  private def mapped(kind: DataType, vector: DataType): DataType = kind match {
    case _: VectorUDT => vector
    case ArrayType(element, nullable) => ArrayType(mapped(element, vector), nullable || element == NullType)
    case MapType(key, value, nullable) =>
      MapType(mapped(keyOf(key), vector), mapped(value, vector), nullable || value == NullType)
    case struct: StructType => StructType(struct.map { field =>
      field.copy(dataType = mapped(field.dataType, vector), nullable = field.nullable || field.dataType == NullType)
    })
    case other => other
  }
}
