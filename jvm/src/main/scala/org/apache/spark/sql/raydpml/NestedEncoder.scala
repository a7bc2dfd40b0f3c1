package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.ArrowBuf
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.sql.vectorized.ColumnVector
import org.apache.spark.unsafe.Platform

/** Structs: rows in the row. Of one that is null the parts are null. */
private[raydpml] final class StructEncoder(room: BlockRoom, expected: Int, parts: Array[ColumnEncoder])
  extends ColumnEncoder(room, expected) {
  private val inner = new RowStarts(parts.length)
  private val nullRow = NullRow.start(parts.length)
  private val nullRows = new NullCells

  override protected def values(cells: Cells): Unit = {
    inner.clear()
    var i = 0
    while (i < cells.count) {
      inner.add(cells.memory, if (cells.isNull(i)) nullRow else cells.start(i))
      i += 1
    }
    var part = 0
    while (part < parts.length) {
      parts(part).append(inner.cells(cells.memory, part))
      part += 1
    }
  }

  /** What the parts of a struct that is null hold is not known: Arrow leaves it open. */
  override protected def values(vector: ColumnVector, from: Int, count: Int): Unit = {
    val nullable = vector.hasNull
    def isNull(i: Int): Boolean = nullable && vector.isNullAt(from + i)
    var i = 0
    while (i < count) {
      var end = i + 1
      while (end < count && isNull(end) == isNull(i)) end += 1
      var part = 0
      while (part < parts.length) {
        if (isNull(i)) parts(part).append(nullRows.of(end - i))
        else parts(part).append(vector.getChild(part), from + i, end - i)
        part += 1
      }
      i = end
    }
  }

  override protected def mixValues(hashes: Array[Long], first: Int, count: Int): Unit = parts.foreach(_.mix(hashes, count))
  override def bytes: Long = rows / 8L + parts.map(_.bytes).sum

  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit =
    parts.foreach(_.finish(nodes, buffers))
  override protected def closeValues(): Unit = parts.foreach(_.close())
}

/** Values of several elements, of which Arrow keeps where each one's begin. A block is cut long before offsets outgrow 4 bytes. */
private[raydpml] abstract class RepeatedEncoder(room: BlockRoom, expected: Int)
  extends ColumnEncoder(room, expected) {
  private val offsets = new GrowingBuffer(room, (expected + 1) * 4L)
  protected var elements = 0
  Platform.putInt(null, offsets.address, 0)

  override protected final def values(cells: Cells): Unit = {
    offsets.reserve((rows + cells.count + 1L) * 4, (rows + 1L) * 4)
    begin(cells)
    var i = 0
    while (i < cells.count) {
      if (!cells.isNull(i)) elements = Math.addExact(elements, add(cells, i))
      Platform.putInt(null, offsets.address + (rows + i + 1L) * 4, elements)
      i += 1
    }
    end()
  }

  /** Takes rows of a column vector: `add` takes the elements of one that is not null, and says how many there were. */
  protected final def eachRow(vector: ColumnVector, from: Int, count: Int)(add: Int => Int): Unit = {
    offsets.reserve((rows + count + 1L) * 4, (rows + 1L) * 4)
    val nullable = vector.hasNull
    var i = 0
    while (i < count) {
      if (!(nullable && vector.isNullAt(from + i))) elements = Math.addExact(elements, add(from + i))
      Platform.putInt(null, offsets.address + (rows + i + 1L) * 4, elements)
      i += 1
    }
  }

  /** Where the elements of a row begin. */
  protected final def start(row: Int): Int = Platform.getInt(null, offsets.address + 4L * row)

  protected def begin(cells: Cells): Unit = ()

  /** Takes the elements of a value that is not null, and says how many there were. */
  protected def add(cells: Cells, i: Int): Int
  protected def end(): Unit = ()

  /** Adds the offsets, and the elements. */
  protected def finishElements(offsets: ArrowBuf, nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit
  protected def closeElements(): Unit

  override protected final def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit =
    finishElements(offsets.finish((rows + 1L) * 4), nodes, buffers)
  override protected final def closeValues(): Unit = {
    offsets.close()
    closeElements()
  }
}

/** Values whose elements are columns of their own. */
private[raydpml] abstract class NestedRepeatedEncoder(room: BlockRoom, expected: Int, parts: Array[ColumnEncoder])
  extends RepeatedEncoder(room, expected) {
  private var hashesOfElements = Array.emptyLongArray

  override protected final def values(vector: ColumnVector, from: Int, count: Int): Unit = {
    val places = Places.of(vector)
    // Rows have their elements one after the other nearly always: those are taken together.
    var begin, end = 0
    def take(): Unit = if (end > begin) parts.indices.foreach(i => parts(i).append(places.getChild(i), begin, end - begin))
    eachRow(vector, from, count) { row =>
      val (first, length) = (places.first(row), places.length(row))
      if (length > 0 && first != end) {
        take()
        begin = first
        end = first
      }
      end += length
      length
    }
    take()
  }

  override protected final def mixValues(hashes: Array[Long], first: Int, count: Int): Unit = {
    val origin = start(first)
    val all = start(first + count) - origin
    if (hashesOfElements.length < all) hashesOfElements = new Array[Long](all)
    java.util.Arrays.fill(hashesOfElements, 0, all, 0L)
    parts.foreach(_.mix(hashesOfElements, all))
    var i = 0
    while (i < count) {
      val until = start(first + i + 1)
      var e = start(first + i)
      var hash = RowDigest.mix(hashes(i), until - e)
      while (e < until) { hash = RowDigest.mix(hash, hashesOfElements(e - origin)); e += 1 }
      hashes(i) = hash
      i += 1
    }
  }

  override final def bytes: Long = rows * 4L + parts.map(_.bytes).sum
  override protected final def closeElements(): Unit = parts.foreach(_.close())
}

/** Arrays of anything. */
private[raydpml] final class ListEncoder(room: BlockRoom, expected: Int, element: ColumnEncoder, width: Int)
  extends NestedRepeatedEncoder(room, expected, Array(element)) {
  private val inner = new SlotCells

  override protected def begin(cells: Cells): Unit = inner.clear(cells.memory)
  override protected def add(cells: Cells, i: Int): Int = inner.addElements(cells.start(i), width)
  override protected def end(): Unit = element.append(inner)
  override protected def finishElements(offsets: ArrowBuf, nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    buffers.add(offsets)
    element.finish(nodes, buffers)
  }
}

/** Maps (UnsafeMapData): number of bytes of the keys' array, the keys' array, the values' array. Arrow has a list of structs. */
private[raydpml] final class MapEncoder(
    room: BlockRoom,
    expected: Int,
    key: ColumnEncoder,
    keyWidth: Int,
    value: ColumnEncoder,
    valueWidth: Int)
  extends NestedRepeatedEncoder(room, expected, Array(key, value)) {
  private val keys = new SlotCells
  private val mapped = new SlotCells
  private val none = room.empty

  override protected def begin(cells: Cells): Unit = {
    keys.clear(cells.memory)
    mapped.clear(cells.memory)
  }

  override protected def add(cells: Cells, i: Int): Int = {
    val map = cells.start(i)
    keys.addElements(map + 8, keyWidth)
    mapped.addElements(map + 8 + Platform.getLong(cells.memory, map), valueWidth)
  }

  override protected def end(): Unit = {
    key.append(keys)
    value.append(mapped)
  }

  override protected def finishElements(offsets: ArrowBuf, nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    buffers.add(offsets)
    // No entry is null.
    nodes.add(new ArrowFieldNode(elements, 0))
    buffers.add(none)
    key.finish(nodes, buffers)
    value.finish(nodes, buffers)
  }
}
