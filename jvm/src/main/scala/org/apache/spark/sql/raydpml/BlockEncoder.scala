package org.apache.spark.sql.raydpml

import java.nio.channels.WritableByteChannel
import java.util.{ArrayList => JArrayList}

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator}
import org.apache.arrow.vector.VectorSchemaRoot
import org.apache.arrow.vector.ipc.{ArrowStreamWriter, WriteChannel}
import org.apache.arrow.vector.ipc.message.{ArrowFieldNode, ArrowRecordBatch, MessageSerializer}
import org.apache.arrow.vector.types.pojo.Schema

import org.apache.spark.sql.catalyst.expressions.UnsafeRow
import org.apache.spark.sql.execution.arrow.ArrowWriter
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.ArrowUtils
import org.apache.spark.sql.vectorized.ColumnarBatch

/** One Arrow record batch in the making. */
private[raydpml] trait BlockEncoder {

  /** Writes an Arrow stream with one batch. */
  def save(channel: WritableByteChannel): Unit

  def close(): Unit
}

/** Turns rows into an Arrow record batch. */
private[raydpml] trait RowEncoder extends BlockEncoder {
  def add(row: UnsafeRow): Unit
}

private[raydpml] object RowEncoder {

  /** Our own encoder where it knows all types, Spark's ArrowWriter for every other schema. */
  def create(schema: StructType, plan: ExportPlan, room: BlockRoom, expectedRows: Int): RowEncoder =
    if (ColumnEncoder.supportsAll(schema)) {
      new TransposingEncoder(schema, plan, room, expectedRows)
    } else {
      new ArrowWriterEncoder(schema, plan.timeZone, room.allocator)
    }
}

private[raydpml] object BlockEncoder {

  /** Writes encoded columns as an Arrow stream with one batch. */
  def save(
      channel: WritableByteChannel,
      schema: Schema,
      columns: Array[_ <: ColumnEncoder],
      rows: Int): Unit = {
    val stream = new WriteChannel(channel)
    MessageSerializer.serialize(stream, schema)
    val nodes = new JArrayList[ArrowFieldNode]()
    val buffers = new JArrayList[ArrowBuf]()
    columns.foreach(_.finish(nodes, buffers))
    val batch = new ArrowRecordBatch(rows, nodes, buffers)
    try MessageSerializer.serialize(stream, batch)
    finally batch.close()
    // End of stream.
    stream.writeIntLittleEndian(-1)
    stream.writeIntLittleEndian(0)
  }
}

/** Copies rows in small blocks and then encodes each block column by column, which saves the per-value dispatch of ArrowWriter. */
private[raydpml] class TransposingEncoder(
    schema: StructType,
    plan: ExportPlan,
    room: BlockRoom,
    expectedRows: Int)
  extends RowEncoder {

  private val block = new RowBlock(schema)
  private val columns = schema.fields.map(field => ColumnEncoder.create(room, field.dataType, expectedRows, plan.sparse))
  private var rows = 0

  override def add(row: UnsafeRow): Unit =
    if (!block.add(row)) {
      flush()
      block.add(row)
    }

  private def flush(): Unit = {
    var c = 0
    while (c < columns.length) {
      columns(c).append(block.cells(c))
      c += 1
    }
    rows += block.rows
    block.clear()
  }

  override def save(channel: WritableByteChannel): Unit = {
    flush()
    BlockEncoder.save(channel, ArrowSchema.of(schema, plan.timeZone, plan.sparse), columns, rows)
  }

  override def close(): Unit = columns.foreach(_.close())
}

/** Spark's own writer, for types that only it knows. */
private[raydpml] class ArrowWriterEncoder(schema: StructType, timeZone: String, allocator: BufferAllocator)
  extends RowEncoder {

  private val root = VectorSchemaRoot.create(ArrowUtils.toArrowSchema(schema, timeZone, true, false), allocator)
  private val writer = ArrowWriter.create(root)

  override def add(row: UnsafeRow): Unit = writer.write(row)

  override def save(channel: WritableByteChannel): Unit = {
    writer.finish()
    val stream = new ArrowStreamWriter(root, null, channel)
    stream.start()
    stream.writeBatch()
    stream.end()
  }

  override def close(): Unit = root.close()
}

/** Turns Spark's column vectors into an Arrow record batch, without rows in between. */
private[raydpml] class ColumnarEncoder(
    schema: StructType,
    plan: ExportPlan,
    room: BlockRoom,
    expectedRows: Int)
  extends BlockEncoder {

  private val columns = schema.fields.map(field => ColumnEncoder.create(room, field.dataType, expectedRows, plan.sparse))
  private val hashes = new Array[Long](ColumnarEncoder.Rows)
  private var rows = 0
  private var taken = 0L

  /** Appends at most [[ColumnarEncoder.Rows]] rows of a batch. */
  def add(batch: ColumnarBatch, from: Int, count: Int, digest: RowDigest): Unit = {
    java.util.Arrays.fill(hashes, 0L)
    var c = 0
    while (c < columns.length) {
      (batch.column(c), columns(c)) match {
        case (lying: CellsVector, column) =>
          column.append(lying.cells(from, count))
          lying.mix(hashes, from, count)
          taken += lying.bytes(from, count)
        case (vector, column) =>
          val before = column.bytes
          column.append(vector, from, count)
          column.mix(hashes, count)
          taken += column.bytes - before
      }
      c += 1
    }
    var i = 0
    while (i < count) {
      // Once more, so that the last column's bits spread too.
      digest.add(RowDigest.mix(hashes(i), columns.length))
      i += 1
    }
    rows += count
  }

  /** Of the values so far, near enough to cut blocks by. */
  def bytes: Long = taken

  /** Length of a column's vectors; -1 when there is none. */
  def vectorSize(column: Int): Int = columns(column) match {
    case vectors: AnyVectorEncoder => vectors.commonSize(schema(column).name)
    case other => throw new IllegalStateException(s"column $column is encoded by ${other.getClass.getName}")
  }

  override def save(channel: WritableByteChannel): Unit =
    BlockEncoder.save(channel, ArrowSchema.of(schema, plan.timeZone, plan.sparse), columns, rows)

  override def close(): Unit = columns.foreach(_.close())
}

private[sql] object ColumnarEncoder {

  /** Taken at a time: a column of them fits into the processor's cache, and a block can be cut after each. */
  val Rows = 4096

  /** Whether all columns of a schema can be taken from column vectors of Spark; nested ones, if `nested` says that [[Places]] knows
    * them.
    */
  def supports(schema: StructType, nested: Boolean): Boolean =
    if (nested) ColumnEncoder.supportsAll(schema) else schema.forall(field => FlatEncoder.supports(field.dataType))
}
