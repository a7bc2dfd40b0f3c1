package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator}
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.sql.catalyst.expressions.{UnsafeArrayData, UnsafeRow}
import org.apache.spark.unsafe.Platform

/** ML vectors as structs of their size, and the indices and the values that they hold. A dense one holds all indices.
  *
  * The row holds a struct (VectorUDT.sqlType): type (1: dense), size, indices, values.
  */
private[raydpml] final class SparseEncoder(allocator: BufferAllocator, column: Int, expected: Int)
  extends ColumnEncoder(allocator, column, expected) {
  private val sizes = new GrowingBuffer(allocator, expected * 4L)
  private val offsets = new GrowingBuffer(allocator, (expected + 1) * 4L)
  private val indices = new GrowingBuffer(allocator, expected * 4L)
  private val data = new GrowingBuffer(allocator, expected * 8L)
  private val none = allocator.getEmpty
  private val vector = new UnsafeRow(4)
  private var elements = 0
  Platform.putInt(null, offsets.address, 0)

  override protected def values(block: RowBlock): Unit = {
    sizes.reserve((rows + block.rows) * 4L, rows * 4L)
    offsets.reserve((rows + block.rows + 1) * 4L, (rows + 1) * 4L)
    val field = block.field(column)
    var i = 0
    while (i < block.rows) {
      var size = 0
      if (!block.isNull(i, column)) {
        val told = Platform.getLong(block.memory, block.start(i) + field)
        vector.pointTo(block.memory, block.start(i) + (told >>> 32), told.toInt)
        size = VectorEncoder.size(vector)
        add(vector)
      }
      Platform.putInt(null, sizes.address + (rows + i) * 4L, size)
      Platform.putInt(null, offsets.address + (rows + i + 1) * 4L, elements)
      i += 1
    }
  }

  private def add(vector: UnsafeRow): Unit = {
    val given = vector.getArray(3)
    val count = given.numElements
    val total = Math.addExact(elements, count)
    indices.reserve(total * 4L, elements * 4L)
    data.reserve(total * 8L, elements * 8L)
    copy(given, 8, data.address + elements * 8L)
    val to = indices.address + elements * 4L
    if (VectorEncoder.isDense(vector)) {
      var e = 0
      while (e < count) { Platform.putInt(null, to + 4L * e, e); e += 1 }
    } else {
      copy(vector.getArray(2), 4, to)
    }
    elements = total
  }

  private def copy(given: UnsafeArrayData, width: Int, to: Long): Unit = {
    val header = UnsafeArrayData.calculateHeaderPortionInBytes(given.numElements)
    Platform.copyMemory(given.getBaseObject, given.getBaseOffset + header, null, to, given.numElements.toLong * width)
  }

  /** Nothing below the struct is null, so none of it needs a validity buffer. */
  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    nodes.add(new ArrowFieldNode(rows, 0))
    buffers.add(none)
    buffers.add(sizes.finish(rows * 4L))
    val ends = offsets.finish((rows + 1) * 4L)
    Seq(indices.finish(elements * 4L), data.finish(elements * 8L)).foreach { held =>
      nodes.add(new ArrowFieldNode(rows, 0))
      buffers.add(none)
      buffers.add(ends)
      nodes.add(new ArrowFieldNode(elements, 0))
      buffers.add(none)
      buffers.add(held)
    }
  }

  override protected def closeValues(): Unit = {
    sizes.close()
    offsets.close()
    indices.close()
    data.close()
  }
}
