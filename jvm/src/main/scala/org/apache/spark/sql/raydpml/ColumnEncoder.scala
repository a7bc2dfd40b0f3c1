package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator}
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.ml.linalg.VectorUDT
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{UnsafeArrayData, UnsafeRow}
import org.apache.spark.sql.types._
import org.apache.spark.unsafe.Platform

/** Memory that grows as bytes are appended to it. */
private[raydpml] final class GrowingBuffer(allocator: BufferAllocator, initial: Long) {
  private var buffer: ArrowBuf = allocator.buffer(math.max(64L, initial))

  def address: Long = buffer.memoryAddress

  /** Makes room for `size` bytes in all, of which the first `used` are kept. */
  def reserve(size: Long, used: Long): Unit =
    if (size > buffer.capacity) {
      val larger = allocator.buffer(math.max(buffer.capacity * 2, size))
      Platform.copyMemory(null, buffer.memoryAddress, null, larger.memoryAddress, used)
      buffer.close()
      buffer = larger
    }

  def finish(size: Long): ArrowBuf = {
    reserve(size, size)
    buffer.writerIndex(size)
    buffer
  }

  def close(): Unit = buffer.close()
}

/** A column of bits: Arrow's validity, and its booleans. */
private[raydpml] final class Bits(allocator: BufferAllocator, expected: Int) {
  private val bytes = new GrowingBuffer(allocator, expected / 8 + 8)
  private var cleared = 0L

  /** Bits up to `rows` can be set afterwards; new ones are 0. */
  def reserve(rows: Int): Unit = {
    val needed = (rows + 7L) / 8
    bytes.reserve(needed, cleared)
    if (needed > cleared) {
      // Whole words ahead, so that this is rare.
      val until = (needed + 1023) / 1024 * 1024
      bytes.reserve(until, cleared)
      Platform.setMemory(null, bytes.address + cleared, until - cleared, 0.toByte)
      cleared = until
    }
  }

  def set(index: Int): Unit = {
    val at = bytes.address + (index >> 3)
    Platform.putByte(null, at, (Platform.getByte(null, at) | (1 << (index & 7))).toByte)
  }

  def setAll(from: Int, until: Int): Unit = {
    var i = from
    while (i < until && (i & 7) != 0) { set(i); i += 1 }
    val whole = (until - i) >> 3
    Platform.setMemory(null, bytes.address + (i >> 3), whole.toLong, 0xff.toByte)
    i += whole << 3
    while (i < until) { set(i); i += 1 }
  }

  def finish(rows: Int): ArrowBuf = {
    reserve(rows)
    bytes.finish((rows + 7L) / 8)
  }

  def close(): Unit = bytes.close()
}

/** Appends one column of row blocks to the buffers that Arrow's format asks for. */
private[raydpml] abstract class ColumnEncoder(allocator: BufferAllocator, column: Int, expected: Int) {
  private val validity = new Bits(allocator, expected)
  private var nulls = 0
  protected var rows = 0

  final def append(block: RowBlock): Unit = {
    validity.reserve(rows + block.rows)
    if (!block.hasNull(column)) {
      validity.setAll(rows, rows + block.rows)
    } else {
      var i = 0
      while (i < block.rows) {
        if (block.isNull(i, column)) nulls += 1 else validity.set(rows + i)
        i += 1
      }
    }
    values(block)
    rows += block.rows
  }

  /** The values of a null row are zeros or empty: Spark clears the field of a null. */
  protected def values(block: RowBlock): Unit
  protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit
  protected def closeValues(): Unit

  final def finish(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    nodes.add(new ArrowFieldNode(rows, nulls))
    buffers.add(validity.finish(rows))
    finishValues(nodes, buffers)
  }

  final def close(): Unit = {
    validity.close()
    closeValues()
  }
}

/** Values of 1, 2, 4 or 8 bytes, as they are in the row. */
private[raydpml] final class FixedEncoder(allocator: BufferAllocator, column: Int, expected: Int, width: Int)
  extends ColumnEncoder(allocator, column, expected) {
  private val data = new GrowingBuffer(allocator, expected.toLong * width)

  override protected def values(block: RowBlock): Unit = {
    data.reserve((rows + block.rows).toLong * width, rows.toLong * width)
    val to = data.address + rows.toLong * width
    val field = block.field(column)
    val memory = block.memory
    val count = block.rows
    var i = 0
    width match {
      case 8 => while (i < count) { Platform.putLong(null, to + 8L * i, Platform.getLong(memory, block.start(i) + field)); i += 1 }
      case 4 => while (i < count) { Platform.putInt(null, to + 4L * i, Platform.getInt(memory, block.start(i) + field)); i += 1 }
      case 2 => while (i < count) { Platform.putShort(null, to + 2L * i, Platform.getShort(memory, block.start(i) + field)); i += 1 }
      case 1 => while (i < count) { Platform.putByte(null, to + i, Platform.getByte(memory, block.start(i) + field)); i += 1 }
    }
  }

  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit =
    buffers.add(data.finish(rows.toLong * width))
  override protected def closeValues(): Unit = data.close()
}

private[raydpml] final class BooleanEncoder(allocator: BufferAllocator, column: Int, expected: Int)
  extends ColumnEncoder(allocator, column, expected) {
  private val data = new Bits(allocator, expected)

  override protected def values(block: RowBlock): Unit = {
    data.reserve(rows + block.rows)
    val field = block.field(column)
    var i = 0
    while (i < block.rows) {
      if (Platform.getByte(block.memory, block.start(i) + field) != 0) data.set(rows + i)
      i += 1
    }
  }

  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit =
    buffers.add(data.finish(rows))
  override protected def closeValues(): Unit = data.close()
}

/** Decimals, which Arrow keeps in 16 bytes, little-endian. Up to 18 digits the row holds a long, above that the big-endian bytes of a
  * BigInteger.
  */
private[raydpml] final class DecimalEncoder(allocator: BufferAllocator, column: Int, expected: Int, precision: Int)
  extends ColumnEncoder(allocator, column, expected) {
  private val data = new GrowingBuffer(allocator, expected * 16L)

  override protected def values(block: RowBlock): Unit = {
    data.reserve((rows + block.rows) * 16L, rows * 16L)
    val field = block.field(column)
    var i = 0
    while (i < block.rows) {
      val to = data.address + (rows + i) * 16L
      val told = Platform.getLong(block.memory, block.start(i) + field)
      if (precision <= Decimal.MAX_LONG_DIGITS) {
        Platform.putLong(null, to, told)
        Platform.putLong(null, to + 8, told >> 63)
      } else if (block.isNull(i, column)) {
        Platform.putLong(null, to, 0L)
        Platform.putLong(null, to + 8, 0L)
      } else {
        putBytes(block, block.start(i) + (told >>> 32), told.toInt, to)
      }
      i += 1
    }
  }

  private def putBytes(block: RowBlock, from: Long, length: Int, to: Long): Unit = {
    val sign = if (Platform.getByte(block.memory, from) < 0) 0xff.toByte else 0.toByte
    var b = 0
    while (b < 16) {
      val byte = if (b < length) Platform.getByte(block.memory, from + length - 1 - b) else sign
      Platform.putByte(null, to + b, byte)
      b += 1
    }
  }

  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit =
    buffers.add(data.finish(rows * 16L))
  override protected def closeValues(): Unit = data.close()
}

/** Strings and binary. A block is cut long before offsets outgrow 4 bytes. */
private[raydpml] final class BytesEncoder(allocator: BufferAllocator, column: Int, expected: Int)
  extends ColumnEncoder(allocator, column, expected) {
  private val offsets = new GrowingBuffer(allocator, (expected + 1) * 4L)
  private val data = new GrowingBuffer(allocator, expected * 8L)
  private var used = 0L
  Platform.putInt(null, offsets.address, 0)

  override protected def values(block: RowBlock): Unit = {
    offsets.reserve((rows + block.rows + 1) * 4L, (rows + 1) * 4L)
    // No value is longer than the block's bytes: one reservation, with 8 bytes of room for copying short values as one word.
    data.reserve(used + block.memory.length + 8, used)
    val memory = block.memory
    val field = block.field(column)
    val to = data.address
    val ends = offsets.address + (rows + 1) * 4L
    var at = used
    var i = 0
    while (i < block.rows) {
      val start = block.start(i)
      val told = Platform.getLong(memory, start + field)
      val length = told.toInt
      val from = start + (told >>> 32)
      if (length > 8) Platform.copyMemory(memory, from, null, to + at, length)
      // Values of variable length are padded to 8 bytes in the row, so a whole word can be read.
      else if (length > 0) Platform.putLong(null, to + at, Platform.getLong(memory, from))
      at += length
      Platform.putInt(null, ends + 4L * i, Math.toIntExact(at))
      i += 1
    }
    used = at
  }

  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = {
    buffers.add(offsets.finish((rows + 1) * 4L))
    buffers.add(data.finish(used))
  }
  override protected def closeValues(): Unit = {
    offsets.close()
    data.close()
  }
}

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

private[raydpml] object ColumnEncoder {

  /** Width in bytes of types whose value is the same in a row and in Arrow; 0 for all others. */
  private def width(kind: DataType): Int = kind match {
    case LongType | DoubleType | TimestampType | TimestampNTZType => 8
    case IntegerType | FloatType | DateType => 4
    case ShortType => 2
    case ByteType => 1
    case _ => 0
  }

  def supports(kind: DataType): Boolean = kind match {
    case BooleanType | StringType | BinaryType | _: DecimalType | _: VectorUDT => true
    case ArrayType(element, _) => width(element) > 0
    case other => width(other) > 0
  }

  /** Whether all columns of a schema can be encoded by the encoders here. */
  def supports(schema: StructType): Boolean = schema.forall(field => supports(field.dataType))

  /** The schema as Arrow sees it: ML vectors are lists. */
  def listed(schema: StructType): StructType = StructType(schema.map { field =>
    field.dataType match {
      case _: VectorUDT => field.copy(dataType = ArrayType(DoubleType, containsNull = false))
      case _ => field
    }
  })

  def create(allocator: BufferAllocator, kind: DataType, column: Int, expected: Int): ColumnEncoder = kind match {
    case BooleanType => new BooleanEncoder(allocator, column, expected)
    case StringType | BinaryType => new BytesEncoder(allocator, column, expected)
    case _: VectorUDT => new VectorEncoder(allocator, column, expected)
    case decimal: DecimalType => new DecimalEncoder(allocator, column, expected, decimal.precision)
    case ArrayType(element, _) => new ArrayEncoder(allocator, column, expected, width(element))
    case other => new FixedEncoder(allocator, column, expected, width(other))
  }
}
