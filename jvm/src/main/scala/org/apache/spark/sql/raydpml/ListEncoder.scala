package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.ArrowBuf
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.unsafe.Platform

/** Arrays of fixed-width elements, which lie side by side (UnsafeArrayData: count, null bits, elements). */
private[raydpml] final class FixedListEncoder(room: BlockRoom, expected: Int, width: Int)
  extends RepeatedEncoder(room, expected) {
  private val data = new GrowingBuffer(room, expected.toLong * width)
  private val present = new Bits(room, expected)
  private var nullElements = 0

  override protected def add(cells: Cells, i: Int): Int = {
    val (memory, array) = (cells.memory, cells.start(i))
    val count = Platform.getLong(memory, array).toInt
    val total = Math.addExact(elements, count)
    val bitset = Cells.bitsetBytes(count)
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
    count
  }

  private def hasNull(memory: Array[Byte], bits: Long, bytes: Long): Boolean = {
    var w = 0
    while (w < bytes) {
      if (Platform.getLong(memory, bits + w) != 0) return true
      w += 8
    }
    false
  }

  override protected def finishElements(offsets: ArrowBuf, nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    buffers.add(offsets)
    nodes.add(new ArrowFieldNode(elements, nullElements))
    buffers.add(present.finish(elements))
    buffers.add(data.finish(elements.toLong * width))
  }
  override protected def closeElements(): Unit = {
    present.close()
    data.close()
  }
}
