package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator}
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.ml.linalg.VectorUDT
import org.apache.spark.sql.types._

/** Appends one column of row blocks to the buffers that Arrow's format asks for. */
private[raydpml] abstract class ColumnEncoder(allocator: BufferAllocator, column: Int, expected: Int) {
  protected val validity = new Bits(allocator, expected)
  protected var nulls = 0
  protected var rows = 0

  final def append(block: RowBlock): Unit = {
    validity.reserve(rows + block.rows)
    if (!block.hasNull(column)) {
      validity.setAll(rows, rows + block.rows)
    } else {
      var i = 0
      while (i < block.rows) {
        if (block.isNull(i, column)) nulls += 1 else validity.set(rows + i)
        i += 1
      }
    }
    values(block)
    rows += block.rows
  }

  /** The values of a null row are zeros or empty: Spark clears the field of a null. */
  protected def values(block: RowBlock): Unit
  protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit
  protected def closeValues(): Unit

  final def finish(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    nodes.add(new ArrowFieldNode(rows, nulls))
    buffers.add(validity.finish(rows))
    finishValues(nodes, buffers)
  }

  final def close(): Unit = {
    validity.close()
    closeValues()
  }
}

private[raydpml] object ColumnEncoder {

  def supports(kind: DataType): Boolean = kind match {
    case ArrayType(element, _) => FixedValues.of(element).nonEmpty
    case _: VectorUDT => true
    case other => FlatEncoder.supports(other)
  }

  /** Whether all columns of a schema can be encoded by the encoders here. */
  def supports(schema: StructType): Boolean = schema.forall(field => supports(field.dataType))

  def create(allocator: BufferAllocator, kind: DataType, column: Int, expected: Int, sparse: Boolean): ColumnEncoder = kind match {
    case _: VectorUDT if sparse => new SparseEncoder(allocator, column, expected)
    case _: VectorUDT => new VectorEncoder(allocator, column, expected)
    case ArrayType(FixedValues(element), _) => new ArrayEncoder(allocator, column, expected, element.width)
    case other => FlatEncoder.create(allocator, other, column, expected)
  }
}
