package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.ArrowBuf
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{UnsafeArrayData, UnsafeRow}
import org.apache.spark.unsafe.Platform

/** ML vectors, dense and sparse. The row holds a struct (VectorUDT.sqlType): type (1: dense), size, indices, values. */
private[raydpml] abstract class AnyVectorEncoder(room: BlockRoom, expected: Int)
  extends RepeatedEncoder(room, expected) {
  private val vector = new UnsafeRow(4)

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
    vector.pointTo(cells.memory, cells.start(i), cells.length(i))
    val size = VectorEncoder.size(vector)
    if (most == -1) least = size
    least = math.min(least, size)
    most = math.max(most, size)
    add(vector, rows + i)
  }

  /** Takes the elements of the vector in a row. */
  protected def add(vector: UnsafeRow, row: Int): Int

  protected def copy(given: UnsafeArrayData, width: Int, to: Long): Unit = {
    val header = UnsafeArrayData.calculateHeaderPortionInBytes(given.numElements)
    Platform.copyMemory(given.getBaseObject, given.getBaseOffset + header, null, to, given.numElements.toLong * width)
  }
}

/** As lists of doubles. */
private[raydpml] final class VectorEncoder(room: BlockRoom, expected: Int)
  extends AnyVectorEncoder(room, expected) {
  private val data = new GrowingBuffer(room, expected * 8L)
  private val none = room.empty

  override protected def add(vector: UnsafeRow, row: Int): Int = {
    val size = VectorEncoder.size(vector)
    data.reserve((elements.toLong + size) * 8, elements * 8L)
    val to = data.address + elements * 8L
    val given = vector.getArray(3)
    if (VectorEncoder.isDense(vector)) {
      copy(given, 8, to)
    } else {
      Platform.setMemory(null, to, size * 8L, 0.toByte)
      val indices = vector.getArray(2)
      var e = 0
      while (e < given.numElements) {
        Platform.putDouble(null, to + indices.getInt(e) * 8L, given.getDouble(e))
        e += 1
      }
    }
    size
  }

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

  override protected def begin(cells: Cells): Unit = {
    sizes.reserve((rows + cells.count) * 4L, rows * 4L)
    // A vector that is null has none.
    Platform.setMemory(null, sizes.address + rows * 4L, cells.count * 4L, 0.toByte)
  }

  override protected def add(vector: UnsafeRow, row: Int): Int = {
    val given = vector.getArray(3)
    val count = given.numElements
    indices.reserve((elements.toLong + count) * 4, elements * 4L)
    data.reserve((elements.toLong + count) * 8, elements * 8L)
    copy(given, 8, data.address + elements * 8L)
    val to = indices.address + elements * 4L
    if (VectorEncoder.isDense(vector)) {
      var e = 0
      while (e < count) { Platform.putInt(null, to + 4L * e, e); e += 1 }
    } else {
      copy(vector.getArray(2), 4, to)
    }
    Platform.putInt(null, sizes.address + row * 4L, VectorEncoder.size(vector))
    count
  }

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
