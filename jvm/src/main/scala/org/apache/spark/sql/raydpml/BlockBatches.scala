package org.apache.spark.sql.raydpml

import java.io.ByteArrayInputStream
import java.nio.{ByteBuffer, ByteOrder}
import java.nio.channels.{Channels, FileChannel}
import java.nio.file.{Paths, StandardOpenOption}
import java.util.Base64

import scala.collection.JavaConverters._

import com.fasterxml.jackson.databind.JsonNode
import org.apache.arrow.flatbuf.{Message, MessageHeader}
import org.apache.arrow.memory.{ArrowBuf, BufferAllocator, ForeignAllocation}
import org.apache.arrow.memory.util.MemoryUtil
import org.apache.arrow.vector.ipc.ReadChannel
import org.apache.arrow.vector.ipc.message.{ArrowFieldNode, ArrowRecordBatch, MessageSerializer}
import org.apache.arrow.vector.types.pojo.{Field, Schema}

import org.apache.spark.TaskContext

/** Rows of a block, and the dictionaries of those columns that have one. The caller closes it. */
private[raydpml] case class BlockBatch(rows: ArrowRecordBatch, dictionaries: Seq[ArrowRecordBatch]) extends AutoCloseable {
  override def close(): Unit = (rows +: dictionaries).foreach(_.close())
}

/** Some columns of a block, mapped from a file. */
private[raydpml] trait BlockBatches extends AutoCloseable {

  /** Columns that have a dictionary hold whole numbers here: the places in it. */
  def schema: Schema

  /** Columns that have a dictionary, with the type of its values. */
  def dictionaries: Seq[Field]

  /** None after the last. */
  def next(): Option[BlockBatch]
}

private[raydpml] object BlockBatches {

  /** The answer, which this takes over, has the place of the columns. */
  def of(answer: HostAnswer, allocator: BufferAllocator): BlockBatches =
    try {
      if (answer.told.has("path")) new StagedBatches(answer, allocator) else new StoreBatches(answer, allocator)
    } catch {
      case problem: Throwable =>
        answer.close()
        throw problem
    }

  /** A part of a file, of up to 2 GiB, as memory. */
  private[raydpml] def map(file: FileChannel, start: Long, length: Long, allocator: BufferAllocator): ArrowBuf =
    if (length == 0) {
      allocator.getEmpty
    } else {
      val mapped = file.map(FileChannel.MapMode.READ_ONLY, start, length)
      allocator.wrapForeignAllocation(new ForeignAllocation(length, MemoryUtil.getByteBufferAddress(mapped)) {
        // The mapping is freed when this reference goes.
        private var held: ByteBuffer = mapped
        override protected def release0(): Unit = held = null
      })
    }
}

/** In the object store's own memory (raydp_ml/exchange/store_memory.py), which the host holds until this is closed. */
private final class StoreBatches(answer: HostAnswer, allocator: BufferAllocator) extends BlockBatches {
  private val task = Option(TaskContext.get())
  private val file = FileChannel.open(Paths.get(answer.told.get("file").asText), StandardOpenOption.READ)
  private val batches = answer.told.get("batches").elements()

  override val schema: Schema = schemaOf("schema")
  override val dictionaries: Seq[Field] = schemaOf("dictionaries").getFields.asScala.toSeq

  private def schemaOf(name: String): Schema = {
    val message = new ByteArrayInputStream(Base64.getDecoder.decode(answer.told.get(name).asText))
    MessageSerializer.deserializeSchema(new ReadChannel(Channels.newChannel(message)))
  }

  override def next(): Option[BlockBatch] =
    if (batches.hasNext) {
      val told = batches.next()
      Some(BlockBatch(batch(told), told.get("dictionaries").elements().asScala.map(batch).toList))
    } else None

  private def batch(told: JsonNode): ArrowRecordBatch = {
    val part = BlockBatches.map(file, told.get("start").asLong, told.get("length").asLong, allocator)
    val nodes = pairs(told.get("nodes")).map { case (rows, nulls) => new ArrowFieldNode(rows, nulls) }
    val buffers = pairs(told.get("buffers")).map { case (start, length) => part.slice(start, length) }
    // The batch keeps what it needs of the part.
    try new ArrowRecordBatch(told.get("rows").asInt, nodes.asJava, buffers.asJava)
    finally part.close()
  }

  private def pairs(list: JsonNode): Seq[(Long, Long)] =
    (0 until list.size).map(i => (list.get(i).get(0).asLong, list.get(i).get(1).asLong))

  /** What was read is right only if the host has held it until now. */
  override def close(): Unit = {
    file.close()
    if (task.exists(task => task.isFailed || task.isInterrupted)) answer.close() else answer.release()
  }
}

/** In an Arrow stream that the host has written for us, and unlinks when the connection is closed.
  *
  * The file may be larger than 2 GiB: every message is mapped by itself.
  */
private final class StagedBatches(answer: HostAnswer, allocator: BufferAllocator) extends BlockBatches {
  private val file = FileChannel.open(Paths.get(answer.told.get("path").asText), StandardOpenOption.READ)
  answer.close()

  override val schema: Schema = MessageSerializer.deserializeSchema(nextMessage().get)
  override def dictionaries: Seq[Field] = Nil

  private def read(size: Int): Option[ByteBuffer] = {
    val bytes = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN)
    while (bytes.hasRemaining && file.read(bytes) >= 0) {}
    bytes.flip()
    if (bytes.limit() == size) Some(bytes) else None
  }

  /** The next message's header, read at the file's position; None at the end of the stream. */
  private def nextMessage(): Option[Message] =
    read(4).map(_.getInt).flatMap { first =>
      // A continuation marker (-1) comes before the length since Arrow 0.15.
      if (first == -1) read(4).map(_.getInt) else Some(first)
    }.filter(_ > 0).flatMap(read).map(header => Message.getRootAsMessage(header))

  override def next(): Option[BlockBatch] = nextMessage().map { message =>
    if (message.headerType() != MessageHeader.RecordBatch) {
      throw new IllegalStateException(s"unexpected Arrow message of type ${message.headerType()}")
    }
    val start = file.position()
    file.position(start + message.bodyLength())
    BlockBatch(
      MessageSerializer.deserializeRecordBatch(message, BlockBatches.map(file, start, message.bodyLength(), allocator)),
      Nil)
  }

  override def close(): Unit = file.close()
}
