package org.apache.spark.sql.raydpml

import java.nio.channels.WritableByteChannel
import java.util.{ArrayList => JArrayList}

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator}
import org.apache.arrow.vector.VectorSchemaRoot
import org.apache.arrow.vector.ipc.{ArrowStreamWriter, WriteChannel}
import org.apache.arrow.vector.ipc.message.{ArrowFieldNode, ArrowRecordBatch, MessageSerializer}

import org.apache.spark.sql.catalyst.expressions.UnsafeRow
import org.apache.spark.sql.execution.arrow.ArrowWriter
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.ArrowUtils

/** Turns the rows of one block into one Arrow record batch. */
private[raydpml] trait BlockEncoder {
  def add(row: UnsafeRow): Unit

  /** Writes an Arrow stream with one batch. */
  def save(channel: WritableByteChannel): Unit

  def close(): Unit
}

private[raydpml] object BlockEncoder {

  /** Our own encoder where it knows all types, Spark's ArrowWriter for every other schema. */
  def create(schema: StructType, timeZone: String, allocator: BufferAllocator, expectedRows: Int): BlockEncoder =
    if (ColumnEncoder.supports(schema)) {
      new TransposingEncoder(schema, timeZone, allocator, expectedRows)
    } else {
      new ArrowWriterEncoder(schema, timeZone, allocator)
    }
}

/** Copies rows in small blocks and then encodes each block column by column, which saves the per-value dispatch of ArrowWriter. */
private[raydpml] class TransposingEncoder(
    schema: StructType,
    timeZone: String,
    allocator: BufferAllocator,
    expectedRows: Int)
  extends BlockEncoder {

  private val block = new RowBlock(schema.length)
  private val columns = schema.fields.zipWithIndex.map { case (field, i) =>
    ColumnEncoder.create(allocator, field.dataType, i, expectedRows)
  }
  private var rows = 0

  override def add(row: UnsafeRow): Unit =
    if (!block.add(row)) {
      flush()
      block.add(row)
    }

  private def flush(): Unit = {
    var c = 0
    while (c < columns.length) {
      columns(c).append(block)
      c += 1
    }
    rows += block.rows
    block.clear()
  }

  override def save(file: WritableByteChannel): Unit = {
    flush()
    val channel = new WriteChannel(file)
    val listed = ColumnEncoder.listed(schema)
    MessageSerializer.serialize(channel, ArrowUtils.toArrowSchema(listed, timeZone, true, false))
    val nodes = new JArrayList[ArrowFieldNode]()
    val buffers = new JArrayList[ArrowBuf]()
    columns.foreach(_.finish(nodes, buffers))
    val batch = new ArrowRecordBatch(rows, nodes, buffers)
    try MessageSerializer.serialize(channel, batch)
    finally batch.close()
    // End of stream.
    channel.writeIntLittleEndian(-1)
    channel.writeIntLittleEndian(0)
  }

  override def close(): Unit = columns.foreach(_.close())
}

/** Spark's own writer, for nested types. */
private[raydpml] class ArrowWriterEncoder(schema: StructType, timeZone: String, allocator: BufferAllocator)
  extends BlockEncoder {

  private val root = VectorSchemaRoot.create(ArrowUtils.toArrowSchema(schema, timeZone, true, false), allocator)
  private val writer = ArrowWriter.create(root)

  override def add(row: UnsafeRow): Unit = writer.write(row)

  override def save(file: WritableByteChannel): Unit = {
    writer.finish()
    val stream = new ArrowStreamWriter(root, null, file)
    stream.start()
    stream.writeBatch()
    stream.end()
  }

  override def close(): Unit = root.close()
}
