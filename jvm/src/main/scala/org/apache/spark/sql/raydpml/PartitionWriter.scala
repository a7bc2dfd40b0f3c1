package org.apache.spark.sql.raydpml

import java.nio.channels.FileChannel
import java.nio.file.{Files, Path, StandardOpenOption}

import scala.collection.mutable.ArrayBuffer

import com.fasterxml.jackson.databind.ObjectMapper

import org.apache.spark.{SparkEnv, TaskContext}
import org.apache.spark.sql.types.{DataType, StructType}
import org.apache.spark.sql.util.ArrowUtils

/** Writes one partition into Arrow IPC files of one batch each, in the staging folders of the executor's host.
  *
  * A file becomes one block of the Ray Dataset: a single batch means one chunk per column, which numpy reads without a copy.
  */
private[raydpml] class PartitionWriter(plan: ExportPlan, context: TaskContext) {

  private val staging = Staging.ofThisExecutor
  private val written = new ArrayBuffer[Path]()
  private var blocksOnDisk = 0
  private val mapper = new ObjectMapper()

  /** Describes the files as JSON; raydp_ml/exchange/blocks.py reads it. */
  def write(open: StructType => BlockFiller): String = {
    try {
      staging.awaitRoom(context)
      val schema = DataType.fromJson(plan.schemaJson).asInstanceOf[StructType]
      val filler = open(schema)
      val answer = mapper.createObjectNode().put("op", "partition").put("partition", context.partitionId())
      answer.put("executor", SparkEnv.get.executorId)
      val blocks = answer.putArray("blocks")
      while (filler.hasNext) {
        val rows = writeBlock(filler)
        val path = written.last
        blocks.addObject().put("path", path.toString).put("rows", rows).put("bytes", Files.size(path))
      }
      answer.put("on_disk", blocksOnDisk)
      val digest = filler.digest
      answer.put("rows", digest.rows).put("unordered", digest.unordered).put("ordered", digest.ordered)
      val vectors = answer.putObject("vectors")
      plan.vectors.zip(filler.vectorSizes).foreach { case (column, size) =>
        if (size >= 0) vectors.put(schema(column).name, size)
      }
      mapper.writeValueAsString(answer)
    } catch {
      case e: Throwable =>
        written.foreach(path => Files.deleteIfExists(path))
        throw e
    }
  }

  private def nextPath(bytes: Long): Path = {
    val name = s"${plan.id}-${context.partitionId()}-${context.taskAttemptId()}-${written.length}.arrow"
    val (path, onDisk) = staging.path(name, bytes)
    if (onDisk) blocksOnDisk += 1
    written += path
    path
  }

  private def writeBlock(filler: BlockFiller): Int = {
    val allocator = ArrowUtils.rootAllocator.newChildAllocator("raydp-ml-export", 0, Long.MaxValue)
    try {
      val earlier = PartitionWriter.earlier(plan.id)
      val room = new BlockRoom(allocator, earlier.sizes)
      val block = filler.fill(room, math.max(RowBlock.Rows, earlier.rows))
      try {
        context.killTaskIfInterrupted()
        val channel = FileChannel.open(nextPath(block.bytes), StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)
        try block.encoder.save(channel)
        finally channel.close()
        PartitionWriter.last = WrittenBlock(plan.id, block.rows, room.sizes)
        block.rows
      } finally block.encoder.close()
    } finally allocator.close()
  }
}

/** Sizes of a block of an export. */
private case class WrittenBlock(export: String, rows: Int, sizes: Array[Long])

private[raydpml] object PartitionWriter {

  /** The block that this JVM wrote last: the next one of its export reserves as much memory at once. */
  @volatile private var last = WrittenBlock("", 0, Array.empty)

  private def earlier(export: String): WrittenBlock = {
    val known = last
    if (known.export == export) known else WrittenBlock(export, 16 * RowBlock.Rows, Array.empty)
  }
}
