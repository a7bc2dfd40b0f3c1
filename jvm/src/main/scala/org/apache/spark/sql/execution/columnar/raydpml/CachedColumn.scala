package org.apache.spark.sql.execution.columnar.raydpml

import java.nio.{ByteBuffer, ByteOrder}

import org.apache.spark.sql.catalyst.expressions.codegen.UnsafeRowWriter
import org.apache.spark.sql.execution.columnar.{ColumnAccessor, DefaultCachedBatch, MutableUnsafeRow}
import org.apache.spark.sql.execution.columnar.compression.PassThrough
import org.apache.spark.sql.execution.vectorized.OnHeapColumnVector
import org.apache.spark.sql.raydpml.{AddressVector, CellsVector, ColumnEncoder, NullRow}
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.ColumnVector

/** Decodes one column of the batches in Spark's cache; each vector is good until the next. */
private class CachedColumn(place: Int, kind: DataType) {
  private val lying = new CellsVector(kind)
  private var values: OnHeapColumnVector = _
  private var copied = Array.emptyByteArray

  def decode(batch: DefaultCachedBatch): ColumnVector = {
    val encoded = batch.buffers(place)
    kind match {
      case CachedColumn.Fixed() if isPacked(encoded, batch.numRows) =>
        AddressVector.packed(encoded, CachedColumn.Header, kind)
      case BooleanType | CachedColumn.Fixed() =>
        val vector = emptyVector(batch.numRows)
        ColumnAccessor.decompress(encoded, vector, kind, batch.numRows)
        vector
      case decimal: DecimalType =>
        val vector = emptyVector(batch.numRows)
        decimals(encoded, batch.numRows, decimal, vector)
        vector
      case NullType =>
        lying.clear(encoded, batch.numRows)
        (0 until batch.numRows).foreach(_ => lying.addNull())
        lying
      case _ =>
        val column = new CachedValues(encoded, kind.isInstanceOf[StringType])
        if (NullRow.isNeeded(kind)) column.lieIn(lying, batch.numRows, behindNullRow(encoded), NullRow.Bytes)
        else column.lieIn(lying, batch.numRows, encoded, 0)
        lying
    }
  }

  /** Structs that are null are read as a row of nulls, which lies in front of the values. */
  private def behindNullRow(encoded: Array[Byte]): Array[Byte] = {
    if (copied.length < NullRow.Bytes + encoded.length) copied = NullRow.inFrontOf(encoded.length)
    System.arraycopy(encoded, 0, copied, NullRow.Bytes, encoded.length)
    copied
  }

  /** Whether the values lie side by side: none is null (a count that comes first), none is compressed (a number that comes next). */
  private def isPacked(encoded: Array[Byte], rows: Int): Boolean =
    encoded.length == CachedColumn.Header + rows.toLong * kind.defaultSize && {
      val header = ByteBuffer.wrap(encoded).order(ByteOrder.nativeOrder())
      header.getInt() == 0 && header.getInt() == PassThrough.typeId
    }

  private def emptyVector(rows: Int): OnHeapColumnVector = {
    // A dictionary would stay in the vector.
    if (values == null || values.hasDictionary) values = new OnHeapColumnVector(rows, kind)
    else {
      values.reset()
      values.reserve(rows)
    }
    values
  }

  /** Through an UnsafeRow of one field, into which Spark's accessors copy them. */
  private def decimals(encoded: Array[Byte], rows: Int, kind: DecimalType, vector: OnHeapColumnVector): Unit = {
    val accessor = ColumnAccessor(kind, ByteBuffer.wrap(encoded))
    val writer = new UnsafeRowWriter(1)
    val field = new MutableUnsafeRow(writer)
    writer.reset()
    writer.zeroOutNullBytes()
    var i = 0
    while (i < rows) {
      writer.reset()
      accessor.extractTo(field, 0)
      val row = writer.getRow
      if (row.isNullAt(0)) {
        vector.putNull(i)
        writer.zeroOutNullBytes()
      } else {
        vector.putDecimal(i, row.getDecimal(0, kind.precision, kind.scale), kind.precision)
      }
      i += 1
    }
  }
}

private object CachedColumn {
  private val Header = 8

  /** Whether columns of a type are read here. Inside of nested values all types have the form that they have in rows. */
  def supports(kind: DataType): Boolean = kind match {
    case _: DayTimeIntervalType => false
    case time if time.typeName.startsWith("time(") => false
    case other => ColumnEncoder.supports(other)
  }

  /** Types whose values have the same bytes in the cache as elsewhere. */
  private object Fixed {
    def unapply(kind: DataType): Boolean = kind match {
      case ByteType | ShortType | IntegerType | LongType | FloatType | DoubleType | DateType | TimestampType | TimestampNTZType => true
      case _ => false
    }
  }
}
