package org.apache.spark.sql.raydpml

import java.io.ByteArrayOutputStream
import java.nio.channels.Channels
import java.util.concurrent.{LinkedBlockingQueue, TimeUnit}

import scala.collection.JavaConverters._

import com.fasterxml.jackson.databind.ObjectMapper
import org.apache.arrow.vector.VectorSchemaRoot
import org.apache.arrow.vector.ipc.ArrowStreamWriter

import org.apache.spark.SparkContext
import org.apache.spark.sql.execution.QueryExecution
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.ArrowUtils

/** What a task must know to write its partition; travels with the task.
  *
  * `vectors` are the array columns whose rows all have one length, which is found out while writing. `sparse`: ML vectors are
  * encoded as they are (SparseEncoder) and not as lists.
  */
case class ExportPlan(
    id: String,
    schemaJson: String,
    timeZone: String,
    blockBytes: Long,
    vectors: Seq[Int],
    sparse: Boolean)

/** Turns the partitions of one executed frame into Arrow files on the executors, and does single partitions again later.
  *
  * raydp_ml/exchange/outbound.py drives it: `start`, then `poll` until a message says done or error.
  *
  * It holds the executed RDD and never plans again, because a second plan may put other rows into a partition.
  */
class Exporter(
    execution: QueryExecution,
    id: String,
    timeZone: String,
    blockBytes: Long,
    vectors: java.util.List[String],
    sparse: Boolean,
    parallelism: Int) {

  private val sc: SparkContext = execution.sparkSession.sparkContext
  private val schema = execution.analyzed.schema
  private val plan =
    ExportPlan(id, schema.json, timeZone, blockBytes, vectors.asScala.map(schema.fieldIndex).toList, sparse)
  private val messages = new LinkedBlockingQueue[String]()
  private val group = s"raydp-ml-export-$id"
  private val mapper = new ObjectMapper()
  private lazy val all = ExportSource.of(plan, execution, schema, parallelism)

  /** What `compute` does again: what `start` ran. */
  @volatile private var started = Option.empty[ExportSource[_]]

  /** Runs the job in a thread of its own, with the job properties of the calling thread. */
  def start(): Unit = {
    val job = new Thread(s"raydp-ml-export-$id") {
      override def run(): Unit =
        try {
          sc.setJobGroup(group, "raydp-ml: DataFrame to Ray Dataset", interruptOnCancel = true)
          val limited = if (parallelism == 0) ExportSource.limited(plan, execution) else None
          limited match {
            case Some((source, rows)) =>
              started = Some(source)
              messages.put(mapper.writeValueAsString(mapper.createObjectNode().put("op", "limited").put("rows", rows)))
              runUntil(rows, source)
            case None =>
              started = Some(all)
              all.run(0 until all.partitions, messages.put)
          }
          messages.put("{\"op\":\"done\"}")
        } catch {
          case e: Throwable =>
            messages.put(mapper.writeValueAsString(
              mapper.createObjectNode().put("op", "error").put("reason", Exporter.describe(e))))
        }
    }
    job.setDaemon(true)
    job.start()
  }

  /** Runs the first partitions, then four times as many as before (Spark's own default for a limit), until there are enough rows. */
  private def runUntil(rows: Long, source: ExportSource[_]): Unit = {
    var next = 0
    var wave = 1
    var found = 0L
    while (found < rows && next < source.partitions) {
      val end = math.min(source.partitions, next + wave)
      source.run(next until end, { written =>
        found += mapper.readTree(written).get("rows").asLong
        messages.put(written)
      })
      next = end
      wave *= 4
    }
  }

  /** An Arrow stream without rows, for its schema. */
  def arrowSchema(): Array[Byte] = {
    val bytes = new ByteArrayOutputStream()
    val root = VectorSchemaRoot.create(ArrowSchema.of(schema, timeZone, sparse), ArrowUtils.rootAllocator)
    try {
      val stream = new ArrowStreamWriter(root, null, Channels.newChannel(bytes))
      stream.start()
      stream.end()
    } finally root.close()
    bytes.toByteArray
  }

  /** Number of partitions; finding it runs the shuffles that an adaptive plan needs. */
  def partitions(): Int = all.partitions

  /** Whether the frame crosses as columns, without rows in between. */
  def isColumnar(): Boolean = all.isColumnar

  /** The next message, or null when none came in time. */
  def poll(milliseconds: Long): String = messages.poll(milliseconds, TimeUnit.MILLISECONDS)

  def cancel(): Unit = sc.cancelJobGroup(group)

  /** Computes one partition and stages it. For a lost block, the caller compares the hashes with those of the first time. */
  def compute(partition: Int): String = {
    sc.setJobGroup(group, s"raydp-ml: partition $partition for Ray", interruptOnCancel = true)
    sc.setLocalProperty(SparkContext.SPARK_SCHEDULER_POOL, RecomputePool.name)
    try {
      RecomputePool.ensure(sc)
      var written = ""
      started.getOrElse(all).run(Seq(partition), written = _)
      written
    } finally {
      sc.setLocalProperty(SparkContext.SPARK_SCHEDULER_POOL, null)
      sc.clearJobGroup()
    }
  }
}

object Exporter {

  /** Whether ML vectors of such a frame are encoded as they are; with columns for Spark's writer they must be arrays before. */
  def encodesVectors(schema: StructType): Boolean = ColumnEncoder.supportsAll(schema)

  private def describe(e: Throwable): String = {
    val text = new java.io.StringWriter()
    e.printStackTrace(new java.io.PrintWriter(text))
    text.toString
  }
}
