package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.ArrowBuf
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.XXH64
import org.apache.spark.sql.vectorized.ColumnVector
import org.apache.spark.unsafe.Platform

/** ML vectors, dense and sparse. The row holds a struct (VectorUDT.sqlType): type (1: dense), size, indices, values. */
private[raydpml] abstract class AnyVectorEncoder(room: BlockRoom, expected: Int)
  extends RepeatedEncoder(room, expected) {
  private val inRow = new VectorInRow

  /** Lengths of the shortest and the longest vector so far. */
  private var least, most = -1

  /** The length of all vectors; -1 when there is none.
    *
    * @param name of the column, for the error when they have several lengths
    */
  def commonSize(name: String): Int = {
    if (least != most) {
      throw new IllegalArgumentException(s"column '$name' holds vectors of $least and of $most elements")
    }
    most
  }

  override protected final def add(cells: Cells, i: Int): Int = {
    inRow.pointTo(cells, i)
    take(inRow, rows + i)
  }

  override protected final def values(vector: ColumnVector, from: Int, count: Int): Unit = {
    val inColumns = new VectorInColumns(vector)
    beginRows(count)
    eachRow(vector, from, count) { row =>
      inColumns.pointTo(row)
      take(inColumns, rows + row - from)
    }
  }

  private def take(vector: GivenVector, row: Int): Int = {
    val size = vector.size
    if (most == -1) least = size
    least = math.min(least, size)
    most = math.max(most, size)
    add(vector, row)
  }

  override protected final def begin(cells: Cells): Unit = beginRows(cells.count)

  /** So many rows follow. */
  protected def beginRows(count: Int): Unit

  /** Takes the elements of the vector in a row. */
  protected def add(vector: GivenVector, row: Int): Int

  override protected final def mixValues(hashes: Array[Long], first: Int, count: Int): Unit = {
    var i = 0
    while (i < count) {
      val row = first + i
      hashes(i) = hash(hashes(i), row, start(row), start(row + 1) - start(row))
      i += 1
    }
  }

  /** The hash of a row with the elements that were taken of it. */
  protected def hash(before: Long, row: Int, first: Int, count: Int): Long
}

/** As lists of doubles. */
private[raydpml] final class VectorEncoder(room: BlockRoom, expected: Int)
  extends AnyVectorEncoder(room, expected) {
  private val data = new GrowingBuffer(room, expected * 8L)
  private val none = room.empty

  override protected def beginRows(count: Int): Unit = ()

  override protected def add(vector: GivenVector, row: Int): Int = {
    val size = vector.size
    data.reserve((elements.toLong + size) * 8, elements * 8L)
    val to = data.address + elements * 8L
    if (vector.isDense) {
      vector.copyValues(to)
    } else {
      Platform.setMemory(null, to, size * 8L, 0.toByte)
      var i = 0
      while (i < vector.count) {
        Platform.putDouble(null, to + vector.index(i) * 8L, vector.value(i))
        i += 1
      }
    }
    size
  }

  override protected def hash(before: Long, row: Int, first: Int, count: Int): Long =
    RowDigest.mix(RowDigest.mix(before, count), XXH64.hashUnsafeBytes(null, data.address + first * 8L, count * 8, 42L))

  override def bytes: Long = elements * 8L + rows * 4L

  override protected def finishElements(offsets: ArrowBuf, nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    buffers.add(offsets)
    nodes.add(new ArrowFieldNode(elements, 0))
    buffers.add(none)
    buffers.add(data.finish(elements * 8L))
  }
  override protected def closeElements(): Unit = data.close()
}

private[raydpml] object VectorEncoder {
  def isDense(vector: InternalRow): Boolean = vector.getByte(0) == 1
  def size(vector: InternalRow): Int = if (isDense(vector)) vector.getArray(3).numElements else vector.getInt(1)
}

/** As structs of their size, and the indices and the values that they hold (ArrowSchema.scala). A dense one holds all indices. */
private[raydpml] final class SparseEncoder(room: BlockRoom, expected: Int)
  extends AnyVectorEncoder(room, expected) {
  private val sizes = new GrowingBuffer(room, expected * 4L)
  private val indices = new GrowingBuffer(room, expected * 4L)
  private val data = new GrowingBuffer(room, expected * 8L)
  private val none = room.empty

  override protected def beginRows(count: Int): Unit = {
    sizes.reserve((rows + count) * 4L, rows * 4L)
    // A vector that is null has none.
    Platform.setMemory(null, sizes.address + rows * 4L, count * 4L, 0.toByte)
  }

  override protected def add(vector: GivenVector, row: Int): Int = {
    val count = vector.count
    indices.reserve((elements.toLong + count) * 4, elements * 4L)
    data.reserve((elements.toLong + count) * 8, elements * 8L)
    vector.copyValues(data.address + elements * 8L)
    val to = indices.address + elements * 4L
    if (vector.isDense) {
      var i = 0
      while (i < count) { Platform.putInt(null, to + 4L * i, i); i += 1 }
    } else {
      vector.copyIndices(to)
    }
    Platform.putInt(null, sizes.address + row * 4L, vector.size)
    count
  }

  override protected def hash(before: Long, row: Int, first: Int, count: Int): Long = {
    val size = RowDigest.mix(RowDigest.mix(before, Platform.getInt(null, sizes.address + row * 4L)), count)
    val places = XXH64.hashUnsafeBytes(null, indices.address + first * 4L, count * 4, 42L)
    RowDigest.mix(RowDigest.mix(size, places), XXH64.hashUnsafeBytes(null, data.address + first * 8L, count * 8, 42L))
  }

  override def bytes: Long = elements * 12L + rows * 12L

  /** Nothing below the struct is null, so none of it needs a validity buffer. Both lists begin at the same places. */
  override protected def finishElements(offsets: ArrowBuf, nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    nodes.add(new ArrowFieldNode(rows, 0))
    buffers.add(none)
    buffers.add(sizes.finish(rows * 4L))
    Seq(indices.finish(elements * 4L), data.finish(elements * 8L)).foreach { held =>
      nodes.add(new ArrowFieldNode(rows, 0))
      buffers.add(none)
      buffers.add(offsets)
      nodes.add(new ArrowFieldNode(elements, 0))
      buffers.add(none)
      buffers.add(held)
    }
  }

  override protected def closeElements(): Unit = {
    sizes.close()
    indices.close()
    data.close()
  }
}
