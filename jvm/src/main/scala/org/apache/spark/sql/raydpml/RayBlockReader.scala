package org.apache.spark.sql.raydpml

import java.nio.{ByteBuffer, ByteOrder}
import java.nio.channels.FileChannel
import java.nio.file.{Files, StandardOpenOption}

import scala.collection.JavaConverters._

import org.apache.arrow.flatbuf.{Message, MessageHeader}
import org.apache.arrow.memory.{ArrowBuf, ForeignAllocation}
import org.apache.arrow.memory.util.MemoryUtil
import org.apache.arrow.vector.{VectorLoader, VectorSchemaRoot}
import org.apache.arrow.vector.ipc.message.MessageSerializer

import org.apache.spark.sql.connector.read.PartitionReader
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.ArrowUtils
import org.apache.spark.sql.vectorized.ColumnarBatch

/** Reads one block: the host actor writes the wanted columns as an Arrow stream into its directory, this maps the file and hands
  * its buffers to Spark without a copy.
  *
  * A file may be larger than 2 GiB: every message is mapped by itself.
  */
private[raydpml] class RayBlockReader(block: RayBlockPartition, wanted: StructType)
  extends PartitionReader[ColumnarBatch] {

  private val allocator = ArrowUtils.rootAllocator.newChildAllocator("raydp-ml-import", 0, Long.MaxValue)
  private val channel: FileChannel = open()
  private val root: VectorSchemaRoot =
    VectorSchemaRoot.create(MessageSerializer.deserializeSchema(nextMessage().get), allocator)
  private val loader = new VectorLoader(root)
  private val vectors = {
    val byName = root.getFieldVectors.asScala.map(vector => vector.getName -> vector).toMap
    wanted.fields.map(field => byName(field.name) -> field.dataType)
  }
  private var batch: ColumnarBatch = _

  /** The file is unlinked as soon as it is open, so that nothing stays behind whatever happens to this task. */
  private def open(): FileChannel = {
    val path = HostClient.file(block, wanted.fieldNames)
    val opened = FileChannel.open(path, StandardOpenOption.READ)
    Files.delete(path)
    opened
  }

  private def read(size: Int): Option[ByteBuffer] = {
    val bytes = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN)
    while (bytes.hasRemaining && channel.read(bytes) >= 0) {}
    bytes.flip()
    if (bytes.limit() == size) Some(bytes) else None
  }

  /** The next message's header, read at the channel's position; None at the end of the stream. */
  private def nextMessage(): Option[Message] =
    read(4).map(_.getInt).flatMap { first =>
      // A continuation marker (-1) comes before the length since Arrow 0.15.
      if (first == -1) read(4).map(_.getInt) else Some(first)
    }.filter(_ > 0).flatMap(read).map(header => Message.getRootAsMessage(header))

  private def mapBody(length: Long): ArrowBuf = {
    val start = channel.position()
    channel.position(start + length)
    if (length == 0) {
      allocator.getEmpty
    } else {
      val mapped = channel.map(FileChannel.MapMode.READ_ONLY, start, length)
      allocator.wrapForeignAllocation(new ForeignAllocation(length, MemoryUtil.getByteBufferAddress(mapped)) {
        // The mapping is freed when this reference goes.
        private var held: ByteBuffer = mapped
        override protected def release0(): Unit = held = null
      })
    }
  }

  override def next(): Boolean = nextMessage() match {
    case None => false
    case Some(message) if message.headerType() != MessageHeader.RecordBatch =>
      throw new IllegalStateException(s"unexpected Arrow message of type ${message.headerType()}")
    case Some(message) =>
      val body = mapBody(message.bodyLength())
      val record = MessageSerializer.deserializeRecordBatch(message, body)
      try loader.load(record)
      finally record.close()
      batch = new ColumnarBatch(vectors.map { case (vector, kind) => AddressVector.of(vector, kind) }, root.getRowCount)
      true
  }

  override def get(): ColumnarBatch = batch

  override def close(): Unit = {
    root.close()
    channel.close()
    allocator.close()
  }
}
