package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator}
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{UnsafeArrayData, UnsafeRow}
import org.apache.spark.unsafe.Platform

/** Arrays of fixed-width elements: the row holds them side by side (UnsafeArrayData: count, null bits, elements). */
private[raydpml] final class ArrayEncoder(allocator: BufferAllocator, column: Int, expected: Int, width: Int)
  extends ColumnEncoder(allocator, column, expected) {
  private val offsets = new GrowingBuffer(allocator, (expected + 1) * 4L)
  private val data = new GrowingBuffer(allocator, expected.toLong * width)
  private val present = new Bits(allocator, expected)
  private var elements = 0
  private var nullElements = 0
  Platform.putInt(null, offsets.address, 0)

  override protected def values(block: RowBlock): Unit = {
    offsets.reserve((rows + block.rows + 1) * 4L, (rows + 1) * 4L)
    val field = block.field(column)
    var i = 0
    while (i < block.rows) {
      if (!block.isNull(i, column)) {
        add(block.memory, block.start(i) + (Platform.getLong(block.memory, block.start(i) + field) >>> 32))
      }
      Platform.putInt(null, offsets.address + (rows + i + 1) * 4L, elements)
      i += 1
    }
  }

  private def add(memory: Array[Byte], array: Long): Unit = {
    val count = Platform.getLong(memory, array).toInt
    val total = Math.addExact(elements, count)
    val bitset = (count + 63) / 64 * 8
    data.reserve(total.toLong * width, elements.toLong * width)
    Platform.copyMemory(memory, array + 8 + bitset, null, data.address + elements.toLong * width, count.toLong * width)
    present.reserve(total)
    if (hasNull(memory, array + 8, bitset)) {
      var e = 0
      while (e < count) {
        val word = Platform.getLong(memory, array + 8 + 8L * (e >> 6))
        if ((word >>> (e & 63) & 1L) != 0) nullElements += 1 else present.set(elements + e)
        e += 1
      }
    } else {
      present.setAll(elements, total)
    }
    elements = total
  }

  private def hasNull(memory: Array[Byte], bits: Long, bytes: Int): Boolean = {
    var w = 0
    while (w < bytes) {
      if (Platform.getLong(memory, bits + w) != 0) return true
      w += 8
    }
    false
  }

  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    buffers.add(offsets.finish((rows + 1) * 4L))
    nodes.add(new ArrowFieldNode(elements, nullElements))
    buffers.add(present.finish(elements))
    buffers.add(data.finish(elements.toLong * width))
  }
  override protected def closeValues(): Unit = {
    offsets.close()
    present.close()
    data.close()
  }
}

/** ML vectors, dense and sparse, as lists of doubles. The row holds a struct (VectorUDT.sqlType): type (1: dense), size, indices,
  * values.
  */
private[raydpml] final class VectorEncoder(allocator: BufferAllocator, column: Int, expected: Int)
  extends ColumnEncoder(allocator, column, expected) {
  private val offsets = new GrowingBuffer(allocator, (expected + 1) * 4L)
  private val data = new GrowingBuffer(allocator, expected * 8L)
  private val present = new Bits(allocator, expected)
  private val vector = new UnsafeRow(4)
  private var elements = 0
  Platform.putInt(null, offsets.address, 0)

  override protected def values(block: RowBlock): Unit = {
    offsets.reserve((rows + block.rows + 1) * 4L, (rows + 1) * 4L)
    val field = block.field(column)
    var i = 0
    while (i < block.rows) {
      if (!block.isNull(i, column)) {
        val told = Platform.getLong(block.memory, block.start(i) + field)
        vector.pointTo(block.memory, block.start(i) + (told >>> 32), told.toInt)
        add(vector)
      }
      Platform.putInt(null, offsets.address + (rows + i + 1) * 4L, elements)
      i += 1
    }
  }

  private def add(vector: UnsafeRow): Unit = {
    val size = VectorEncoder.size(vector)
    val total = Math.addExact(elements, size)
    data.reserve(total * 8L, elements * 8L)
    val to = data.address + elements * 8L
    val given = vector.getArray(3)
    if (VectorEncoder.isDense(vector)) {
      copy(given, to)
    } else {
      Platform.setMemory(null, to, size * 8L, 0.toByte)
      val indices = vector.getArray(2)
      var e = 0
      while (e < given.numElements) {
        Platform.putDouble(null, to + indices.getInt(e) * 8L, given.getDouble(e))
        e += 1
      }
    }
    elements = total
  }

  private def copy(given: UnsafeArrayData, to: Long): Unit = {
    val header = UnsafeArrayData.calculateHeaderPortionInBytes(given.numElements)
    Platform.copyMemory(given.getBaseObject, given.getBaseOffset + header, null, to, given.numElements * 8L)
  }

  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    present.reserve(elements)
    present.setAll(0, elements)
    buffers.add(offsets.finish((rows + 1) * 4L))
    nodes.add(new ArrowFieldNode(elements, 0))
    buffers.add(present.finish(elements))
    buffers.add(data.finish(elements * 8L))
  }
  override protected def closeValues(): Unit = {
    offsets.close()
    present.close()
    data.close()
  }
}

private[raydpml] object VectorEncoder {
  def isDense(vector: InternalRow): Boolean = vector.getByte(0) == 1
  def size(vector: InternalRow): Int = if (isDense(vector)) vector.getArray(3).numElements else vector.getInt(1)
}
