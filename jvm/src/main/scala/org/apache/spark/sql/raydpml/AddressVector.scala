package org.apache.spark.sql.raydpml

import org.apache.arrow.vector.{BaseFixedWidthVector, BaseLargeVariableWidthVector, BaseVariableWidthVector, BitVector, DecimalVector, FieldVector}
import org.apache.arrow.vector.complex.{FixedSizeListVector, LargeListVector, ListVector, MapVector, StructVector}

import org.apache.spark.ml.linalg.VectorUDT
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.{ArrowColumnVector, ColumnVector}
import org.apache.spark.unsafe.Platform
import org.apache.spark.unsafe.types.UTF8String

/** Reads values that lie side by side, as in an Arrow vector, at their addresses.
  *
  * Spark's ArrowColumnVector asks a different accessor per type, and Arrow checks each access; that took most of the time of a sum. Here
  * all columns have one class, so that the JIT compiler can inline what a query reads. Whoever made it keeps the memory.
  *
  * Addresses are those of Platform: in an array, or with `base` null outside of the heap.
  */
private[sql] final class AddressVector private[raydpml] (
    kind: DataType,
    base: AnyRef,
    nulls: Int,
    validity: Long,
    values: Long,
    offsets: Long)
  extends RefusingVector(kind) {

  override def hasNull: Boolean = nulls > 0
  override def numNulls: Int = nulls
  override def isNullAt(row: Int): Boolean = nulls > 0 && !bit(validity, row)

  override def getBoolean(row: Int): Boolean = bit(values, row)
  override def getByte(row: Int): Byte = Platform.getByte(base, values + row)
  override def getShort(row: Int): Short = Platform.getShort(base, values + 2L * row)
  override def getInt(row: Int): Int = Platform.getInt(base, values + 4L * row)
  override def getLong(row: Int): Long = Platform.getLong(base, values + 8L * row)
  override def getFloat(row: Int): Float = Platform.getFloat(base, values + 4L * row)
  override def getDouble(row: Int): Double = Platform.getDouble(base, values + 8L * row)

  override def getUTF8String(row: Int): UTF8String =
    if (isNullAt(row)) null else UTF8String.fromAddress(base, values + offset(row), offset(row + 1) - offset(row))

  override def getBinary(row: Int): Array[Byte] =
    if (isNullAt(row)) {
      null
    } else {
      val bytes = new Array[Byte](offset(row + 1) - offset(row))
      Platform.copyMemory(base, values + offset(row), bytes, Platform.BYTE_ARRAY_OFFSET, bytes.length)
      bytes
    }

  /** Copies values of a fixed width, nulls as they are. */
  def copy(from: Int, count: Int, width: Int, to: Long): Unit =
    Platform.copyMemory(base, values + from.toLong * width, null, to, count.toLong * width)

  private def offset(row: Int): Int = Platform.getInt(base, offsets + 4L * row)
  private def bit(bits: Long, row: Int): Boolean = (Platform.getByte(base, bits + (row >> 3)) >> (row & 7) & 1) != 0
}

private[sql] object AddressVector {

  /** Values of a fixed width in an array, none of them null. */
  def packed(bytes: Array[Byte], start: Int, kind: DataType): AddressVector =
    new AddressVector(kind, bytes, 0, 0L, Platform.BYTE_ARRAY_OFFSET.toLong + start, 0L)

  /** A column of Arrow for Spark; decimals are read by Spark's own class. */
  def of(vector: FieldVector, kind: DataType): ColumnVector = (vector, kind) match {
    case (bits: BitVector, BooleanType) => fixed(bits, kind)
    case (_: DecimalVector, _) => new ArrowColumnVector(vector)
    case (struct: StructVector, _: VectorUDT) => new SparseVectors(struct)
    case (plain: BaseFixedWidthVector, FixedValues(values)) if plain.getTypeWidth == values.width => fixed(plain, kind)
    case (bytes: BaseVariableWidthVector, StringType | BinaryType) =>
      val (data, offsets) = (bytes.getDataBuffer, bytes.getOffsetBuffer)
      new AddressVector(
        kind, null, bytes.getNullCount, bytes.getValidityBuffer.memoryAddress, data.memoryAddress, offsets.memoryAddress)
    case (bytes: BaseLargeVariableWidthVector, StringType | BinaryType) =>
      new LargeBytes(bytes, kind, offsets(bytes, wide = true), bytes.getDataBuffer.memoryAddress)
    case (map: MapVector, MapType(key, value, _)) =>
      val entries = map.getDataVector.asInstanceOf[StructVector]
      new Maps(map, kind, offsets(map, wide = false), part(entries, 0, key), part(entries, 1, value))
    case (lists: ListVector, ArrayType(element, _)) =>
      new Lists(lists, kind, offsets(lists, wide = false), of(lists.getDataVector, element))
    case (lists: LargeListVector, ArrayType(element, _)) =>
      new Lists(lists, kind, offsets(lists, wide = true), of(lists.getDataVector, element))
    case (lists: FixedSizeListVector, ArrayType(element, _)) =>
      new FixedLists(lists, kind, lists.getListSize, of(lists.getDataVector, element))
    case (struct: StructVector, StructType(fields)) =>
      new Structs(struct, kind, fields.indices.map(i => part(struct, i, fields(i).dataType)).toArray)
    case _ => new ArrowColumnVector(vector)
  }

  def part(struct: StructVector, ordinal: Int, kind: DataType): ColumnVector =
    of(struct.getChildByOrdinal(ordinal).asInstanceOf[FieldVector], kind)

  /** A column of places in a dictionary. */
  def of(places: FieldVector, kind: DataType, dictionary: FieldVector): ColumnVector = places match {
    case fixed: BaseFixedWidthVector => new DictionaryVector(fixed, fixed.getTypeWidth, kind, of(dictionary, kind))
    case other => throw new IllegalStateException(s"places in a dictionary as ${other.getField}")
  }

  private def offsets(vector: FieldVector, wide: Boolean): Offsets = new Offsets(vector.getOffsetBuffer.memoryAddress, wide)

  private def fixed(vector: BaseFixedWidthVector, kind: DataType): AddressVector = new AddressVector(
    kind, null, vector.getNullCount, vector.getValidityBuffer.memoryAddress, vector.getDataBuffer.memoryAddress, 0L)
}
