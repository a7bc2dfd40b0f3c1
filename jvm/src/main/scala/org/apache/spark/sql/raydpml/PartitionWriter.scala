package org.apache.spark.sql.raydpml

import java.nio.channels.FileChannel
import java.nio.file.{Files, Path, StandardOpenOption}

import scala.collection.mutable.ArrayBuffer

import com.fasterxml.jackson.databind.ObjectMapper

import org.apache.spark.{SparkEnv, TaskContext}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{UnsafeProjection, UnsafeRow}
import org.apache.spark.sql.types.{ArrayType, DataType, StructType}
import org.apache.spark.sql.util.ArrowUtils

/** Writes one partition into Arrow IPC files of one batch each, in the staging folders of the executor's host.
  *
  * A file becomes one block of the Ray Dataset: a single batch means one chunk per column, which numpy reads without a copy.
  */
private[raydpml] class PartitionWriter(plan: ExportPlan, context: TaskContext) {

  private val schema = DataType.fromJson(plan.schemaJson).asInstanceOf[StructType]
  private val staging = Staging.ofThisExecutor
  private val vectorSizes = Array.fill(plan.vectors.length)(-1)
  private val written = new ArrayBuffer[Path]()
  private var blocksOnDisk = 0
  private val mapper = new ObjectMapper()

  /** Describes the files as JSON; raydp_ml/exchange/blocks.py reads it. */
  def write(rows: Iterator[InternalRow]): String = {
    try {
      staging.awaitRoom(context)
      val unsafe = asUnsafe(rows)
      val digest = new RowDigest
      val answer = mapper.createObjectNode().put("op", "partition").put("partition", context.partitionId())
      answer.put("executor", SparkEnv.get.executorId)
      val blocks = answer.putArray("blocks")
      while (unsafe.hasNext) {
        val count = writeBlock(unsafe, digest)
        val path = written.last
        blocks.addObject().put("path", path.toString).put("rows", count).put("bytes", Files.size(path))
      }
      answer.put("on_disk", blocksOnDisk)
      answer.put("rows", digest.rows).put("unordered", digest.unordered).put("ordered", digest.ordered)
      val vectors = answer.putObject("vectors")
      plan.vectors.zip(vectorSizes).foreach { case (column, size) =>
        if (size >= 0) vectors.put(schema(column).name, size)
      }
      mapper.writeValueAsString(answer)
    } catch {
      case e: Throwable =>
        written.foreach(path => Files.deleteIfExists(path))
        throw e
    }
  }

  private def asUnsafe(rows: Iterator[InternalRow]): Iterator[UnsafeRow] = {
    lazy val projection = UnsafeProjection.create(schema)
    rows.map {
      case row: UnsafeRow => row
      case row => projection(row)
    }
  }

  private def checkVectors(row: UnsafeRow): Unit = {
    var i = 0
    while (i < vectorSizes.length) {
      val column = plan.vectors(i)
      if (!row.isNullAt(column)) {
        val size = schema(column).dataType match {
          case _: ArrayType => row.getArray(column).numElements()
          case _ => VectorEncoder.size(row.getStruct(column, 4))
        }
        if (vectorSizes(i) == -1) vectorSizes(i) = size
        if (vectorSizes(i) != size) {
          throw new IllegalArgumentException(
            s"column '${schema(column).name}' holds vectors of ${vectorSizes(i)} and of $size elements")
        }
      }
      i += 1
    }
  }

  private def nextPath(bytes: Long): Path = {
    val name = s"${plan.id}-${context.partitionId()}-${context.taskAttemptId()}-${written.length}.arrow"
    val (path, onDisk) = staging.path(name, bytes)
    if (onDisk) blocksOnDisk += 1
    written += path
    path
  }

  private def writeBlock(rows: Iterator[UnsafeRow], digest: RowDigest): Long = {
    val allocator = ArrowUtils.rootAllocator.newChildAllocator("raydp-ml-export", 0, Long.MaxValue)
    try {
      val encoder = BlockEncoder.create(schema, plan.timeZone, allocator, PartitionWriter.expectedRows(plan.id))
      try {
        var bytes = 0L
        var count = 0
        while (bytes < plan.blockBytes && rows.hasNext) {
          val row = rows.next()
          digest.add(row)
          checkVectors(row)
          encoder.add(row)
          bytes += row.getSizeInBytes
          count += 1
        }
        context.killTaskIfInterrupted()
        val channel = FileChannel.open(nextPath(bytes), StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)
        try encoder.save(channel)
        finally channel.close()
        PartitionWriter.lastBlock = (plan.id, count)
        count
      } finally encoder.close()
    } finally allocator.close()
  }
}

private[raydpml] object PartitionWriter {

  /** Rows of the block that this JVM wrote last, and its export: the next one reserves as much memory at once. */
  @volatile private var lastBlock: (String, Int) = ("", 0)

  private def expectedRows(export: String): Int = {
    val (id, rows) = lastBlock
    if (id == export) math.max(RowBlock.Rows, rows) else 16 * RowBlock.Rows
  }
}
