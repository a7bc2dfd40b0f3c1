package org.apache.spark.sql.execution.columnar.raydpml

import org.apache.spark.rdd.RDD
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{Alias, Attribute, Expression}
import org.apache.spark.sql.execution._
import org.apache.spark.sql.execution.adaptive.{AdaptiveSparkPlanExec, TableCacheQueryStageExec}
import org.apache.spark.sql.execution.columnar._
import org.apache.spark.sql.execution.datasources.parquet.ParquetFileFormat
import org.apache.spark.sql.execution.datasources.v2.BatchScanExec
import org.apache.spark.sql.internal.SQLConf
import org.apache.spark.sql.raydpml.{ColumnarEncoder, RayBlockScan}
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.vectorized.ColumnarBatch

/** Finds the columns under a plan that would turn them into rows: Parquet scans, Ray Datasets, Spark's cache.
  *
  * Private parts of Spark: the operators and the cache's batches. Seen in 4.3.0 and 3.5.9, and compiled for 4.0, 4.1 and 4.2. The package
  * is one of Spark's because it hides the cache's column accessors from others. tests/exchange/test_columnar.py watches them.
  */
object ColumnarPlan {

  /** What columns an operator gives, how to compute them, and which of them can be encoded. */
  private case class Columns(output: Seq[Attribute], supports: StructType => Boolean, compute: () => RDD[ColumnarBatch]) {
    def fit(schema: StructType): Boolean = output.map(_.dataType) == schema.map(_.dataType) && supports(schema)
  }

  /** The plan's result as columns of the given types; None when it comes as rows. */
  def batches(plan: SparkPlan, schema: StructType, conf: SQLConf): Option[RDD[ColumnarBatch]] =
    columnar(plan).collect {
      case columns if columns.fit(schema) =>
        // Column batches travel as rows in the plans of Spark too; this RDD takes the session's settings to the tasks.
        new SQLExecutionRDD(columns.compute().asInstanceOf[RDD[InternalRow]], conf).asInstanceOf[RDD[ColumnarBatch]]
    }

  private def columnar(plan: SparkPlan): Option[Columns] = plan match {
    case WholeStageCodegenExec(child) => columnar(child)
    case InputAdapter(child) => columnar(child)
    // Its shuffles run here, as they would with its first row.
    case adaptive: AdaptiveSparkPlanExec => columnar(adaptive.finalPhysicalPlan)
    case TableCacheQueryStageExec(_, scan) => columnar(scan)
    case ColumnarToRowExec(InputAdapter(child)) => Some(given(child))
    case ColumnarToRowExec(child) => Some(given(child))
    case scan: InMemoryTableScanExec if isPlain(scan) => 
      Some(Columns(scan.output, _.forall(field => CachedColumn.supports(field.dataType)), () => cached(scan)))
    case ProjectExec(named, child) =>
      columnar(child).flatMap { below =>
        val places = named.map(column => place(column, below.output))
        if (places.contains(-1)) None else Some(below.copy(output = plan.output, compute = () => chosen(below.compute(), places.toArray)))
      }
    case _ => None
  }

  private def given(scan: SparkPlan): Columns = {
    val nested = scan match {
      case files: FileSourceScanExec => files.relation.fileFormat.isInstanceOf[ParquetFileFormat]
      case blocks: BatchScanExec => blocks.scan.isInstanceOf[RayBlockScan]
      case _ => false
    }
    Columns(scan.output, ColumnarEncoder.supports(_, nested), () => scan.executeColumnar())
  }

  /** Where a column that is chosen, and perhaps renamed, lies; -1 for one that is computed. */
  private def place(column: Expression, given: Seq[Attribute]): Int = column match {
    case Alias(child, _) => place(child, given)
    case attribute: Attribute => given.indexWhere(_.exprId == attribute.exprId)
    case _ => -1
  }

  private def chosen(batches: RDD[ColumnarBatch], places: Array[Int]): RDD[ColumnarBatch] =
    batches.mapPartitions(_.map(batch => new ColumnarBatch(places.map(batch.column), batch.numRows)))

  /** Whether Spark's own serializer wrote the cache. With a string column, Spark reads it by rows only. */
  private def isPlain(scan: InMemoryTableScanExec): Boolean =
    scan.predicates.isEmpty && scan.relation.cacheBuilder.serializer.getClass == classOf[DefaultCachedBatchSerializer]

  private def cached(scan: InMemoryTableScanExec): RDD[ColumnarBatch] = {
    val places = scan.output.map(place(_, scan.relation.output)).toArray
    val types = scan.output.map(_.dataType).toArray
    scan.relation.cacheBuilder.cachedColumnBuffers.mapPartitions { batches =>
      val columns = places.zip(types).map { case (place, kind) => new CachedColumn(place, kind) }
      batches.map {
        case batch: DefaultCachedBatch => new ColumnarBatch(columns.map(_.decode(batch)), batch.numRows)
        case other => throw new IllegalStateException(s"unexpected batch in Spark's cache: ${other.getClass.getName}")
      }
    }
  }
}
