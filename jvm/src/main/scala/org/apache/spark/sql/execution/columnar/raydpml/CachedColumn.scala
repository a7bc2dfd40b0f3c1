package org.apache.spark.sql.execution.columnar.raydpml

import java.nio.{ByteBuffer, ByteOrder}

import org.apache.spark.sql.catalyst.expressions.UnsafeRow
import org.apache.spark.sql.catalyst.expressions.codegen.UnsafeRowWriter
import org.apache.spark.sql.execution.columnar.{ColumnAccessor, DefaultCachedBatch, MutableUnsafeRow}
import org.apache.spark.sql.execution.columnar.compression.PassThrough
import org.apache.spark.sql.execution.vectorized.OnHeapColumnVector
import org.apache.spark.sql.raydpml.AddressVector
import org.apache.spark.sql.types._
import org.apache.spark.sql.vectorized.ColumnVector

/** Decodes one column of the batches in Spark's cache; each vector is good until the next. */
private class CachedColumn(place: Int, kind: DataType) {
  private val writer = new UnsafeRowWriter(1)
  private val field = new MutableUnsafeRow(writer)
  private val bytes = new BytesVector(kind)
  private var values: OnHeapColumnVector = _

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
        oneByOne(encoded, batch.numRows) { (row, i) =>
          if (row.isNullAt(0)) vector.putNull(i)
          else vector.putDecimal(i, row.getDecimal(0, decimal.precision, decimal.scale), decimal.precision)
        }
        vector
      case _ =>
        if (!new CachedBytes(encoded, kind == BinaryType).copyTo(bytes, batch.numRows)) {
          bytes.clear(batch.numRows)
          oneByOne(encoded, batch.numRows) { (row, _) =>
            if (row.isNullAt(0)) {
              bytes.appendNull()
            } else {
              val told = row.getLong(0)
              // The row lies at the start of the writer's array.
              bytes.append(row.getBaseObject.asInstanceOf[Array[Byte]], (told >>> 32).toInt, told.toInt)
            }
          }
        }
        bytes
    }
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

  /** Through an UnsafeRow of one field, into which Spark's accessors copy bytes without making an object of them. */
  private def oneByOne(encoded: Array[Byte], rows: Int)(take: (UnsafeRow, Int) => Unit): Unit = {
    val accessor = ColumnAccessor(kind, ByteBuffer.wrap(encoded))
    writer.reset()
    writer.zeroOutNullBytes()
    var i = 0
    while (i < rows) {
      writer.reset()
      accessor.extractTo(field, 0)
      val row = writer.getRow
      take(row, i)
      if (row.isNullAt(0)) writer.zeroOutNullBytes()
      i += 1
    }
  }
}

private object CachedColumn {
  private val Header = 8

  /** Types whose values have the same bytes in the cache as elsewhere. */
  private object Fixed {
    def unapply(kind: DataType): Boolean = kind match {
      case ByteType | ShortType | IntegerType | LongType | FloatType | DoubleType | DateType | TimestampType | TimestampNTZType => true
      case _ => false
    }
  }
}
