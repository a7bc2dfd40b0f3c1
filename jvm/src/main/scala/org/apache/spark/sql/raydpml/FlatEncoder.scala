package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.ArrowBuf
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.sql.catalyst.expressions.XXH64
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.ColumnVector
import org.apache.spark.unsafe.Platform

/** Values of 1, 2, 4 or 8 bytes, as they are in the row. */
private[raydpml] final class FixedEncoder(room: BlockRoom, expected: Int, kind: FixedValues)
  extends ColumnEncoder(room, expected) {
  private val width = kind.width
  private val data = new GrowingBuffer(room, expected.toLong * width)

  override protected def values(cells: Cells): Unit = {
    val (memory, count) = (cells.memory, cells.count)
    data.reserve((rows + count).toLong * width, rows.toLong * width)
    val to = data.address + rows.toLong * width
    var i = 0
    width match {
      case 8 => while (i < count) { Platform.putLong(null, to + 8L * i, Platform.getLong(memory, cells.slot(i))); i += 1 }
      case 4 => while (i < count) { Platform.putInt(null, to + 4L * i, Platform.getInt(memory, cells.slot(i))); i += 1 }
      case 2 => while (i < count) { Platform.putShort(null, to + 2L * i, Platform.getShort(memory, cells.slot(i))); i += 1 }
      case 1 => while (i < count) { Platform.putByte(null, to + i, Platform.getByte(memory, cells.slot(i))); i += 1 }
    }
  }

  override protected def values(vector: ColumnVector, from: Int, count: Int): Unit = {
    data.reserve((rows + count).toLong * width, rows.toLong * width)
    kind.copy(vector, from, count, data.address + rows.toLong * width)
  }

  override protected def mixValues(hashes: Array[Long], first: Int, count: Int): Unit = {
    val at = data.address + first.toLong * width
    var i = 0
    width match {
      case 8 => while (i < count) { hashes(i) = RowDigest.mix(hashes(i), Platform.getLong(null, at + 8L * i)); i += 1 }
      case 4 => while (i < count) { hashes(i) = RowDigest.mix(hashes(i), Platform.getInt(null, at + 4L * i)); i += 1 }
      case 2 => while (i < count) { hashes(i) = RowDigest.mix(hashes(i), Platform.getShort(null, at + 2L * i)); i += 1 }
      case 1 => while (i < count) { hashes(i) = RowDigest.mix(hashes(i), Platform.getByte(null, at + i)); i += 1 }
    }
  }

  override def bytes: Long = rows.toLong * width
  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit =
    buffers.add(data.finish(rows.toLong * width))
  override protected def closeValues(): Unit = data.close()
}

private[raydpml] final class BooleanEncoder(room: BlockRoom, expected: Int)
  extends ColumnEncoder(room, expected) {
  private val data = new Bits(room, expected)

  override protected def values(cells: Cells): Unit = {
    data.reserve(rows + cells.count)
    var i = 0
    while (i < cells.count) {
      if (Platform.getByte(cells.memory, cells.slot(i)) != 0) data.set(rows + i)
      i += 1
    }
  }

  override protected def values(vector: ColumnVector, from: Int, count: Int): Unit = {
    data.reserve(rows + count)
    val nullable = vector.hasNull
    var i = 0
    while (i < count) {
      if (!(nullable && vector.isNullAt(from + i)) && vector.getBoolean(from + i)) data.set(rows + i)
      i += 1
    }
  }

  override protected def mixValues(hashes: Array[Long], first: Int, count: Int): Unit = {
    var i = 0
    while (i < count) {
      hashes(i) = RowDigest.mix(hashes(i), if (data.get(first + i)) 1L else 0L)
      i += 1
    }
  }

  override def bytes: Long = rows / 8L
  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit =
    buffers.add(data.finish(rows))
  override protected def closeValues(): Unit = data.close()
}

/** Decimals, which Arrow keeps in 16 bytes, little-endian. Up to 18 digits the row holds a long, above that the big-endian bytes of a
  * BigInteger.
  */
private[raydpml] final class DecimalEncoder(room: BlockRoom, expected: Int, kind: DecimalType)
  extends ColumnEncoder(room, expected) {
  private val data = new GrowingBuffer(room, expected * 16L)
  private val short = kind.precision <= Decimal.MAX_LONG_DIGITS

  override protected def values(cells: Cells): Unit = {
    data.reserve((rows + cells.count) * 16L, rows * 16L)
    var i = 0
    while (i < cells.count) {
      val to = data.address + (rows + i) * 16L
      if (short) putLong(Platform.getLong(cells.memory, cells.slot(i)), to)
      else if (cells.isNull(i)) putLong(0L, to)
      else putBytes(cells.memory, cells.start(i), cells.length(i), to)
      i += 1
    }
  }

  override protected def values(vector: ColumnVector, from: Int, count: Int): Unit = {
    data.reserve((rows + count) * 16L, rows * 16L)
    val nullable = vector.hasNull
    var i = 0
    while (i < count) {
      val to = data.address + (rows + i) * 16L
      if (nullable && vector.isNullAt(from + i)) {
        putLong(0L, to)
      } else {
        val value = vector.getDecimal(from + i, kind.precision, kind.scale)
        if (short) {
          putLong(value.toUnscaledLong, to)
        } else {
          val bytes = value.toJavaBigDecimal.unscaledValue().toByteArray
          putBytes(bytes, Platform.BYTE_ARRAY_OFFSET, bytes.length, to)
        }
      }
      i += 1
    }
  }

  private def putLong(value: Long, to: Long): Unit = {
    Platform.putLong(null, to, value)
    Platform.putLong(null, to + 8, value >> 63)
  }

  private def putBytes(memory: Array[Byte], from: Long, length: Int, to: Long): Unit = {
    val sign = if (Platform.getByte(memory, from) < 0) 0xff.toByte else 0.toByte
    var b = 0
    while (b < 16) {
      val byte = if (b < length) Platform.getByte(memory, from + length - 1 - b) else sign
      Platform.putByte(null, to + b, byte)
      b += 1
    }
  }

  override protected def mixValues(hashes: Array[Long], first: Int, count: Int): Unit = {
    var i = 0
    while (i < count) {
      val at = data.address + (first + i) * 16L
      hashes(i) = RowDigest.mix(RowDigest.mix(hashes(i), Platform.getLong(null, at)), Platform.getLong(null, at + 8))
      i += 1
    }
  }

  override def bytes: Long = rows * 16L
  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit =
    buffers.add(data.finish(rows * 16L))
  override protected def closeValues(): Unit = data.close()
}

/** Strings and binary. A block is cut long before offsets outgrow 4 bytes. */
private[raydpml] final class BytesEncoder(room: BlockRoom, expected: Int, text: Boolean)
  extends ColumnEncoder(room, expected) {
  private val offsets = new GrowingBuffer(room, (expected + 1) * 4L)
  private val data = new GrowingBuffer(room, expected * 8L)
  private var used = 0L
  Platform.putInt(null, offsets.address, 0)

  override protected def values(cells: Cells): Unit = {
    val memory = cells.memory
    offsets.reserve((rows + cells.count + 1) * 4L, (rows + 1) * 4L)
    // With 8 bytes of room for copying short values as one word.
    data.reserve(used + bytesOf(cells) + 8, used)
    val to = data.address
    val ends = offsets.address + (rows + 1) * 4L
    val lastWord = Platform.BYTE_ARRAY_OFFSET + memory.length - 8L
    var at = used
    var i = 0
    while (i < cells.count) {
      val length = cells.length(i)
      val from = cells.start(i)
      if (length > 8 || from > lastWord) Platform.copyMemory(memory, from, null, to + at, length)
      else if (length > 0) Platform.putLong(null, to + at, Platform.getLong(memory, from))
      at += length
      Platform.putInt(null, ends + 4L * i, Math.toIntExact(at))
      i += 1
    }
    used = at
  }

  private def bytesOf(cells: Cells): Long = {
    var sum = 0L
    var i = 0
    while (i < cells.count) { sum += cells.length(i); i += 1 }
    sum
  }

  override protected def values(vector: ColumnVector, from: Int, count: Int): Unit = {
    offsets.reserve((rows + count + 1) * 4L, (rows + 1) * 4L)
    val ends = offsets.address + (rows + 1) * 4L
    val nullable = vector.hasNull
    var i = 0
    while (i < count) {
      if (!(nullable && vector.isNullAt(from + i))) {
        if (text) {
          val value = vector.getUTF8String(from + i)
          copy(value.getBaseObject, value.getBaseOffset, value.numBytes)
        } else {
          val value = vector.getBinary(from + i)
          copy(value, Platform.BYTE_ARRAY_OFFSET, value.length)
        }
      }
      Platform.putInt(null, ends + 4L * i, Math.toIntExact(used))
      i += 1
    }
  }

  private def copy(memory: AnyRef, from: Long, length: Int): Unit = {
    data.reserve(used + length + 8, used)
    Platform.copyMemory(memory, from, null, data.address + used, length)
    used += length
  }

  override protected def mixValues(hashes: Array[Long], first: Int, count: Int): Unit = {
    var i = 0
    while (i < count) {
      val from = Platform.getInt(null, offsets.address + (first + i) * 4L)
      val until = Platform.getInt(null, offsets.address + (first + i + 1) * 4L)
      hashes(i) = RowDigest.mix(RowDigest.mix(hashes(i), until - from), hash(data.address + from, until - from))
      i += 1
    }
  }

  private def hash(from: Long, length: Int): Long =
    if (length == 0) 0L
    // Room for a whole word is reserved; what follows the value in it is shifted out.
    else if (length <= 8) Platform.getLong(null, from) << (64 - 8 * length)
    else XXH64.hashUnsafeBytes(null, from, length, 42L)

  override def bytes: Long = used + rows * 4L
  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    buffers.add(offsets.finish((rows + 1) * 4L))
    buffers.add(data.finish(used))
  }
  override protected def closeValues(): Unit = {
    offsets.close()
    data.close()
  }
}

/** Columns without nesting. */
private[raydpml] object FlatEncoder {
  def supports(kind: DataType): Boolean = kind match {
    case BooleanType | BinaryType | _: StringType | _: DecimalType => true
    case other => FixedValues.of(other).nonEmpty
  }

  def create(room: BlockRoom, kind: DataType, expected: Int): ColumnEncoder = kind match {
    case BooleanType => new BooleanEncoder(room, expected)
    case _: StringType => new BytesEncoder(room, expected, text = true)
    case BinaryType => new BytesEncoder(room, expected, text = false)
    case decimal: DecimalType => new DecimalEncoder(room, expected, decimal)
    case FixedValues(fixed) => new FixedEncoder(room, expected, fixed)
    case other => throw new IllegalArgumentException(s"there is no encoder for columns of type ${other.sql}")
  }
}
