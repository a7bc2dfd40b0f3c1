package org.apache.spark.sql.raydpml

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator}

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

  def get(index: Int): Boolean = (Platform.getByte(null, bytes.address + (index >> 3)) >> (index & 7) & 1) != 0

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
