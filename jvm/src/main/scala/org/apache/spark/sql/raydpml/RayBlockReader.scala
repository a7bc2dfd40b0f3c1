package org.apache.spark.sql.raydpml

import scala.collection.JavaConverters._

import org.apache.arrow.memory.BufferAllocator
import org.apache.arrow.vector.{VectorLoader, VectorSchemaRoot}
import org.apache.arrow.vector.types.pojo.Schema

import org.apache.spark.sql.connector.read.PartitionReader
import org.apache.spark.sql.types.{DataType, StructType}
import org.apache.spark.sql.util.ArrowUtils
import org.apache.spark.sql.vectorized.{ColumnVector, ColumnarBatch}

/** Reads the wanted columns of some blocks: hands the buffers that hold them to Spark, without a copy.
  *
  * The host is asked for a block while the one before it is read.
  */
private[raydpml] class RayBlockReader(blocks: BlocksPartition, wanted: StructType) extends PartitionReader[ColumnarBatch] {
  private val allocator = ArrowUtils.rootAllocator.newChildAllocator("raydp-ml-import", 0, Long.MaxValue)
  private val left = blocks.indices.iterator
  private var asked: Option[HostAnswer] = ask()
  private var open = Option.empty[OpenBlock]

  private def ask(): Option[HostAnswer] =
    if (left.hasNext) Some(HostClient.columns(blocks, left.next(), wanted.fieldNames)) else None

  override def next(): Boolean = open.exists(_.next()) || (openNext() && next())

  private def openNext(): Boolean = {
    closeOpen()
    asked.exists { answer =>
      asked = None
      open = Some(new OpenBlock(BlockBatches.of(answer, allocator), wanted, allocator))
      asked = ask()
      true
    }
  }

  override def get(): ColumnarBatch = open.get.batch

  private def closeOpen(): Unit = {
    val last = open
    open = None
    last.foreach(_.close())
  }

  override def close(): Unit =
    try closeOpen()
    finally {
      asked.foreach(_.close())
      allocator.close()
    }
}

/** The batches of one block, each valid until the next one is there. */
private final class OpenBlock(batches: BlockBatches, wanted: StructType, allocator: BufferAllocator) extends AutoCloseable {
  private val root = VectorSchemaRoot.create(batches.schema, allocator)
  private val loader = new VectorLoader(root)
  private val dictionaries =
    batches.dictionaries.map(field => VectorSchemaRoot.create(new Schema(Seq(field).asJava), allocator))
  private var loaded: ColumnarBatch = _

  def batch: ColumnarBatch = loaded

  def next(): Boolean = batches.next().exists { block =>
    try {
      loader.load(block.rows)
      dictionaries.zip(block.dictionaries).foreach { case (values, record) => new VectorLoader(values).load(record) }
    } finally block.close()
    loaded = new ColumnarBatch(wanted.fields.map(field => column(field.name, field.dataType)), root.getRowCount)
    true
  }

  private def column(name: String, kind: DataType): ColumnVector = {
    val vector = root.getVector(name)
    dictionaries.map(_.getVector(0)).find(_.getName == name) match {
      case Some(values) => AddressVector.of(vector, kind, values)
      case None => AddressVector.of(vector, kind)
    }
  }

  override def close(): Unit = {
    (root +: dictionaries).foreach(_.close())
    batches.close()
  }
}
