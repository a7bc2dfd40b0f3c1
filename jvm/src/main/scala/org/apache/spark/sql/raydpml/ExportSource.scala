package org.apache.spark.sql.raydpml

import org.apache.spark.TaskContext
import org.apache.spark.rdd.RDD
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.execution.{CollectLimitExec, QueryExecution, SQLExecutionRDD, SparkPlan}
import org.apache.spark.sql.execution.adaptive.AdaptiveSparkPlanExec
import org.apache.spark.sql.execution.columnar.raydpml.ColumnarPlan
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.vectorized.ColumnarBatch

/** An executed frame, and how a task writes one of its partitions. */
private[raydpml] class ExportSource[T](
    rdd: RDD[T],
    write: (TaskContext, Iterator[T]) => String,
    val isColumnar: Boolean) {

  def partitions: Int = rdd.getNumPartitions

  /** Writes some partitions and tells what was written, partition by partition. */
  def run(wanted: Seq[Int], tell: String => Unit): Unit =
    rdd.sparkContext.runJob(rdd, write, wanted, (_: Int, written: String) => tell(written))
}

private[raydpml] object ExportSource {

  /** All rows of a frame, in so many partitions; 0: in those that it has.
    *
    * The number is changed on what was executed: another query over the frame would run its shuffles a second time.
    */
  def of(plan: ExportPlan, execution: QueryExecution, schema: StructType, parallelism: Int): ExportSource[_] = {
    val columns = ColumnarPlan.batches(execution.executedPlan, schema, execution.sparkSession.sessionState.conf)
    columns.filter(parallelism <= _.getNumPartitions).map(rdd => ofColumns(plan, inFewer(rdd, parallelism))).getOrElse {
      val rows = execution.toRdd
      ofRows(plan, if (parallelism > rows.getNumPartitions) inMore(rows, execution, schema, parallelism) else inFewer(rows, parallelism))
    }
  }

  private def inFewer[T](rdd: RDD[T], parallelism: Int): RDD[T] =
    if (parallelism == 0 || parallelism >= rdd.getNumPartitions) rdd
    else rdd.coalesce(parallelism, partitionCoalescer = Some(Neighbours))

  private def inMore(rows: RDD[InternalRow], execution: QueryExecution, schema: StructType, parallelism: Int): RDD[InternalRow] =
    execution.sparkSession.internalCreateDataFrame(rows, schema).repartition(parallelism).queryExecution.toRdd

  /** The partitions of a frame that is a limit of another one, each with as many rows as are wanted in all; and their number. None for
    * other frames.
    *
    * Spark's own plan for such a frame computes all of its partitions if somebody wants its RDD.
    */
  def limited(plan: ExportPlan, execution: QueryExecution): Option[(ExportSource[_], Int)] =
    limitOf(execution.executedPlan).map { case (child, rows) =>
      val computed = new SQLExecutionRDD(child.execute(), execution.sparkSession.sessionState.conf)
      (ofRows(plan, computed.mapPartitions(_.take(rows))), rows)
    }

  private def limitOf(plan: SparkPlan): Option[(SparkPlan, Int)] = plan match {
    case CollectLimitExec(limit, child, 0) if limit >= 0 => Some((child, limit))
    case adaptive: AdaptiveSparkPlanExec => limitOf(adaptive.finalPhysicalPlan)
    case _ => None
  }

  def ofRows(plan: ExportPlan, rdd: RDD[InternalRow]): ExportSource[InternalRow] = {
    val write = (context: TaskContext, rows: Iterator[InternalRow]) =>
      new PartitionWriter(plan, context).write(schema => new RowFiller(plan, schema, rows))
    new ExportSource(rdd, write, isColumnar = false)
  }

  def ofColumns(plan: ExportPlan, rdd: RDD[ColumnarBatch]): ExportSource[ColumnarBatch] = {
    val write = (context: TaskContext, batches: Iterator[ColumnarBatch]) =>
      new PartitionWriter(plan, context).write(schema => new ColumnarFiller(plan, schema, batches))
    new ExportSource(rdd, write, isColumnar = true)
  }
}

