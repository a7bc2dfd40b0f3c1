package org.apache.spark.sql.raydpml

import scala.collection.mutable.ArrayBuffer

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator}

import org.apache.spark.unsafe.Platform

/** Memory for the buffers of one block.
  *
  * @param earlier sizes of the buffers of a block before, in the order in which the encoders make them: a buffer that is as large as needed
  *   from the beginning never has to be copied into a larger one
  */
private[raydpml] final class BlockRoom(val allocator: BufferAllocator, earlier: Array[Long]) {
  private val made = new ArrayBuffer[GrowingBuffer]

  def empty: ArrowBuf = allocator.getEmpty

  /** The first memory of a buffer, `guess` bytes if nothing better is known. */
  private[raydpml] def begin(buffer: GrowingBuffer, guess: Long): ArrowBuf = {
    val place = made.length
    made += buffer
    // Blocks are not quite of one size.
    allocator.buffer(math.max(64L, if (place < earlier.length) earlier(place) + earlier(place) / 8 else guess))
  }

  /** What to give to the next block. */
  def sizes: Array[Long] = made.map(_.finished).toArray
}

/** Memory that grows as bytes are appended to it. */
private[raydpml] final class GrowingBuffer(room: BlockRoom, guess: Long) {
  private var buffer: ArrowBuf = room.begin(this, guess)

  /** How many bytes it had in the end. */
  var finished = 0L

  def address: Long = buffer.memoryAddress

  /** Makes room for `size` bytes in all, of which the first `used` are kept. */
  def reserve(size: Long, used: Long): Unit =
    if (size > buffer.capacity) {
      val larger = room.allocator.buffer(math.max(buffer.capacity * 2, size))
      Platform.copyMemory(null, buffer.memoryAddress, null, larger.memoryAddress, used)
      buffer.close()
      buffer = larger
    }

  def finish(size: Long): ArrowBuf = {
    reserve(size, size)
    buffer.writerIndex(size)
    finished = size
    buffer
  }

  def close(): Unit = buffer.close()
}

/** A column of bits: Arrow's validity, and its booleans. */
private[raydpml] final class Bits(room: BlockRoom, expected: Int) {
  private val bytes = new GrowingBuffer(room, expected / 8 + 8)
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
