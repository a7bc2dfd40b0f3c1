package org.apache.spark.sql.execution.columnar.raydpml

import org.apache.spark.sql.execution.columnar.compression.{DictionaryEncoding, PassThrough}
import org.apache.spark.unsafe.Platform

/** A column of strings or binary in Spark's cache, read where it lies.
  *
  * It begins with the number of nulls and their rows. For strings, how the others are compressed comes next. A value is its length and
  * its bytes; a dictionary is its size and its values, and two bytes per row follow it. All numbers are in the machine's byte order.
  * Seen in Spark 3.5.9 and 4.3.0 (ColumnBuilder, NullableColumnBuilder, compressionSchemes.scala).
  */
private class CachedBytes(encoded: Array[Byte], binary: Boolean) {
  private val nulls = int(0)
  private val header = 4 + 4 * nulls

  /** Fills the vector; false when the column is compressed in another way. */
  def copyTo(vector: BytesVector, rows: Int): Boolean = {
    val scheme = if (binary) PassThrough.typeId else int(header)
    val start = if (binary) header else header + 4
    scheme match {
      case PassThrough.typeId =>
        var at = start
        eachRow(vector, rows) { () =>
          val length = int(at)
          vector.append(encoded, at + 4, length)
          at += 4 + length
        }
        true
      case DictionaryEncoding.typeId =>
        val places = new Array[Int](int(start))
        var at = start + 4
        for (entry <- places.indices) {
          places(entry) = at
          at += 4 + int(at)
        }
        eachRow(vector, rows) { () =>
          val place = places(Platform.getShort(encoded, Platform.BYTE_ARRAY_OFFSET + at))
          vector.append(encoded, place + 4, int(place))
          at += 2
        }
        true
      case _ => false
    }
  }

  private def eachRow(vector: BytesVector, rows: Int)(appendNext: () => Unit): Unit = {
    vector.clear(rows)
    var seen = 0
    var nextNull = if (nulls == 0) rows else int(4)
    var row = 0
    while (row < rows) {
      if (row == nextNull) {
        vector.appendNull()
        seen += 1
        nextNull = if (seen == nulls) rows else int(4 + 4 * seen)
      } else {
        appendNext()
      }
      row += 1
    }
  }

  private def int(at: Int): Int = Platform.getInt(encoded, Platform.BYTE_ARRAY_OFFSET + at)
}
