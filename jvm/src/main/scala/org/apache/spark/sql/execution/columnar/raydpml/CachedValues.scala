package org.apache.spark.sql.execution.columnar.raydpml

import org.apache.spark.sql.execution.columnar.compression.{DictionaryEncoding, PassThrough, RunLengthEncoding}
import org.apache.spark.sql.raydpml.CellsVector
import org.apache.spark.unsafe.Platform

/** Where the values of variable length lie in a column of Spark's cache: strings, binary, decimals above 18 digits, and nested values,
  * which have the form that they have in rows.
  *
  * The column begins with the number of nulls and their rows. For strings, how the others are compressed comes next. A value is its
  * length and its bytes; in runs the number of rows follows it; a dictionary is its size and its values, and two bytes per row follow
  * it. All numbers are in the machine's byte order. Seen in Spark 3.5.9 and 4.3.0 (ColumnBuilder, NullableColumnBuilder,
  * compressionSchemes.scala).
  */
private class CachedValues(encoded: Array[Byte], compressed: Boolean) {
  private val origin = Platform.BYTE_ARRAY_OFFSET.toLong
  private val nulls = int(0)
  private val header = 4 + 4 * nulls
  private var at = if (compressed) header + 4 else header

  /** Fills the vector. `memory` has the column's bytes from `shift` on. */
  def lieIn(vector: CellsVector, rows: Int, memory: Array[Byte], shift: Int): Unit = {
    val base = origin + shift
    vector.clear(memory, rows)
    (if (compressed) int(header) else PassThrough.typeId) match {
      case PassThrough.typeId =>
        eachRow(vector, rows) { () =>
          val length = int(at)
          vector.add(base + at + 4, length)
          at += 4 + length
        }
      case DictionaryEncoding.typeId =>
        val places = new Array[Int](int(at))
        at += 4
        for (entry <- places.indices) {
          places(entry) = at
          at += 4 + int(at)
        }
        eachRow(vector, rows) { () =>
          val place = places(Platform.getShort(encoded, origin + at))
          vector.add(base + place + 4, int(place))
          at += 2
        }
      case RunLengthEncoding.typeId =>
        var place = at
        var left = 0
        eachRow(vector, rows) { () =>
          if (left == 0) {
            place = at
            at += 4 + int(at)
            left = int(at)
            at += 4
          }
          vector.add(base + place + 4, int(place))
          left -= 1
        }
      case other => throw new IllegalStateException(s"unknown compression in Spark's cache: $other")
    }
  }

  private def eachRow(vector: CellsVector, rows: Int)(addNext: () => Unit): Unit = {
    var seen = 0
    var nextNull = if (nulls == 0) rows else int(4)
    var row = 0
    while (row < rows) {
      if (row == nextNull) {
        vector.addNull()
        seen += 1
        nextNull = if (seen == nulls) rows else int(4 + 4 * seen)
      } else {
        addNext()
      }
      row += 1
    }
  }

  private def int(at: Int): Int = Platform.getInt(encoded, origin + at)
}
