package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.ArrowBuf
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.ml.linalg.VectorUDT
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.ColumnVector

/** Appends values of one column to the buffers that Arrow's format asks for. */
private[sql] abstract class ColumnEncoder(room: BlockRoom, expected: Int) {
  protected val validity = new Bits(room, expected)
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

  /** Takes rows of a column vector of Spark. Like those of rows, the values of nulls are zeros or empty. */
  final def append(vector: ColumnVector, from: Int, count: Int): Unit = {
    appendNulls(vector, from, count)
    values(vector, from, count)
    rows += count
  }

  private def appendNulls(vector: ColumnVector, from: Int, count: Int): Unit = {
    validity.reserve(Math.addExact(rows, count))
    if (!vector.hasNull) {
      validity.setAll(rows, rows + count)
    } else {
      var i = 0
      while (i < count) {
        if (vector.isNullAt(from + i)) nulls += 1 else validity.set(rows + i)
        i += 1
      }
    }
  }

  /** Mixes this column into the hashes of the `count` rows that were appended last. */
  final def mix(hashes: Array[Long], count: Int): Unit = {
    mixValues(hashes, rows - count, count)
    mixNulls(hashes, count)
  }

  private def mixNulls(hashes: Array[Long], count: Int): Unit =
    if (nulls > 0) {
      var i = 0
      while (i < count) {
        if (!validity.get(rows - count + i)) hashes(i) = RowDigest.mix(hashes(i), RowDigest.NullMark)
        i += 1
      }
    }

  protected def values(cells: Cells): Unit
  protected def values(vector: ColumnVector, from: Int, count: Int): Unit

  /** Mixes the values of the last `count` rows, the first of which is `first`. */
  protected def mixValues(hashes: Array[Long], first: Int, count: Int): Unit

  /** Bytes of the values so far, near enough to cut blocks by. */
  def bytes: Long
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

  def create(room: BlockRoom, kind: DataType, expected: Int, sparse: Boolean): ColumnEncoder = {
    def part(kind: DataType): ColumnEncoder = create(room, kind, expected, sparse)
    kind match {
      case _: VectorUDT => if (sparse) new SparseEncoder(room, expected) else new VectorEncoder(room, expected)
      case ArrayType(FixedValues(element), _) => new FixedListEncoder(room, expected, element)
      case ArrayType(element, _) => new ListEncoder(room, expected, part(element), elementWidth(element))
      case MapType(named, value, _) =>
        val key = ArrowSchema.keyOf(named)
        new MapEncoder(room, expected, part(key), elementWidth(key), part(value), elementWidth(value))
      case struct: StructType => new StructEncoder(room, expected, struct.map(field => part(field.dataType)).toArray)
      case NullType => new NullEncoder(room)
      case other => FlatEncoder.create(room, other, expected)
    }
  }

  /** Bytes of an element's slot in an array of Spark (UnsafeArrayData). */
  private def elementWidth(kind: DataType): Int = kind match {
    case FixedValues(values) => values.width
    case BooleanType => 1
    case _ => 8
  }
}
