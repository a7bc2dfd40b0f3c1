package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.ArrowBuf
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.sql.catalyst.expressions.XXH64
import org.apache.spark.sql.vectorized.ColumnVector
import org.apache.spark.unsafe.Platform

/** Arrays of fixed-width elements, which lie side by side (UnsafeArrayData: count, null bits, elements). */
private[raydpml] final class FixedListEncoder(room: BlockRoom, expected: Int, kind: FixedValues)
  extends RepeatedEncoder(room, expected) {
  private val width = kind.width
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
    if (Cells.isAnySet(memory, array + 8, bitset)) {
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

  override protected def values(vector: ColumnVector, from: Int, count: Int): Unit = {
    val arrays = Places.of(vector)
    val values = arrays.elements
    eachRow(vector, from, count) { row =>
      val (first, length) = (arrays.first(row), arrays.length(row))
      val total = Math.addExact(elements, length)
      data.reserve(total.toLong * width, elements.toLong * width)
      kind.copy(values, first, length, data.address + elements.toLong * width)
      present.reserve(total)
      if (values.hasNull) {
        var e = 0
        while (e < length) {
          if (values.isNullAt(first + e)) nullElements += 1 else present.set(elements + e)
          e += 1
        }
      } else {
        present.setAll(elements, total)
      }
      length
    }
  }

  override protected def mixValues(hashes: Array[Long], first: Int, count: Int): Unit = {
    var i = 0
    while (i < count) {
      val (from, until) = (start(first + i), start(first + i + 1))
      val bytes = XXH64.hashUnsafeBytes(null, data.address + from.toLong * width, (until - from) * width, 42L)
      hashes(i) = RowDigest.mix(RowDigest.mix(hashes(i), until - from), bytes)
      if (nullElements > 0) {
        var e = from
        while (e < until) {
          if (!present.get(e)) hashes(i) = RowDigest.mix(hashes(i), e - from)
          e += 1
        }
      }
      i += 1
    }
  }

  override def bytes: Long = elements.toLong * width + rows * 4L

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
