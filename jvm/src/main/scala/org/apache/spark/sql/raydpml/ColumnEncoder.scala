package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator}
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.ml.linalg.VectorUDT
import org.apache.spark.sql.types._

/** Appends values of one column to the buffers that Arrow's format asks for. */
private[sql] abstract class ColumnEncoder(allocator: BufferAllocator, expected: Int) {
  protected val validity = new Bits(allocator, expected)
  protected var nulls = 0
  protected var rows = 0

  final def append(cells: Cells): Unit = {
    validity.reserve(Math.addExact(rows, cells.count))
    if (!cells.hasNull) {
      validity.setAll(rows, rows + cells.count)
    } else {
      var i = 0
      while (i < cells.count) {
        if (cells.isNull(i)) nulls += 1 else validity.set(rows + i)
        i += 1
      }
    }
    values(cells)
    rows += cells.count
  }

  protected def values(cells: Cells): Unit
  protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit
  protected def closeValues(): Unit

  def finish(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    nodes.add(new ArrowFieldNode(rows, nulls))
    buffers.add(validity.finish(rows))
    finishValues(nodes, buffers)
  }

  final def close(): Unit = {
    validity.close()
    closeValues()
  }
}

private[sql] object ColumnEncoder {

  def supports(kind: DataType): Boolean = kind match {
    case ArrayType(element, _) => supports(element)
    case MapType(key, value, _) => supports(key) && supports(value)
    case struct: StructType => struct.length <= NullRow.MostColumns && supportsAll(struct)
    case NullType | _: VectorUDT => true
    case other => FlatEncoder.supports(other)
  }

  /** Whether all columns of a schema can be encoded by the encoders here. */
  def supportsAll(schema: StructType): Boolean = schema.forall(field => supports(field.dataType))

  def create(allocator: BufferAllocator, kind: DataType, expected: Int, sparse: Boolean): ColumnEncoder = {
    def part(kind: DataType): ColumnEncoder = create(allocator, kind, expected, sparse)
    kind match {
      case _: VectorUDT => if (sparse) new SparseEncoder(allocator, expected) else new VectorEncoder(allocator, expected)
      case ArrayType(FixedValues(element), _) => new FixedListEncoder(allocator, expected, element.width)
      case ArrayType(element, _) => new ListEncoder(allocator, expected, part(element), elementWidth(element))
      case MapType(named, value, _) =>
        val key = ArrowSchema.keyOf(named)
        new MapEncoder(allocator, expected, part(key), elementWidth(key), part(value), elementWidth(value))
      case struct: StructType => new StructEncoder(allocator, expected, struct.map(field => part(field.dataType)).toArray)
      case NullType => new NullEncoder(allocator)
      case other => FlatEncoder.create(allocator, other, expected)
    }
  }

  /** Bytes of an element's slot in an array of Spark (UnsafeArrayData). */
  private def elementWidth(kind: DataType): Int = kind match {
    case FixedValues(values) => values.width
    case BooleanType => 1
    case _ => 8
  }
}
