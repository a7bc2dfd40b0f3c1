package org.apache.spark.sql.raydpml

import scala.collection.JavaConverters._

import org.apache.arrow.vector.{VectorLoader, VectorSchemaRoot}

import org.apache.spark.sql.connector.read.PartitionReader
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.ArrowUtils
import org.apache.spark.sql.vectorized.ColumnarBatch

/** Reads the wanted columns of one block: hands the buffers that hold them to Spark, without a copy. */
private[raydpml] class RayBlockReader(block: RayBlockPartition, wanted: StructType)
  extends PartitionReader[ColumnarBatch] {

  private val allocator = ArrowUtils.rootAllocator.newChildAllocator("raydp-ml-import", 0, Long.MaxValue)
  private val batches = BlockBatches.of(block, wanted.fieldNames, allocator)
  private val root = VectorSchemaRoot.create(batches.schema, allocator)
  private val loader = new VectorLoader(root)
  private val vectors = {
    val byName = root.getFieldVectors.asScala.map(vector => vector.getName -> vector).toMap
    wanted.fields.map(field => byName(field.name) -> field.dataType)
  }
  private var batch: ColumnarBatch = _

  override def next(): Boolean = batches.next() match {
    case None => false
    case Some(record) =>
      try loader.load(record)
      finally record.close()
      batch = new ColumnarBatch(vectors.map { case (vector, kind) => AddressVector.of(vector, kind) }, root.getRowCount)
      true
  }

  override def get(): ColumnarBatch = batch

  override def close(): Unit = {
    root.close()
    try batches.close()
    finally allocator.close()
  }
}
