package org.apache.spark.sql.raydpml

import org.apache.spark.sql.catalyst.expressions.{UnsafeArrayData, UnsafeRow}
import org.apache.spark.sql.vectorized.ColumnVector
import org.apache.spark.unsafe.Platform

/** An ML vector where Spark has it: the parts of VectorUDT.sqlType, which are type (1: dense), size, indices and values. */
private[raydpml] trait GivenVector {
  def isDense: Boolean
  def size: Int

  /** How many values are given. */
  def count: Int
  def index(i: Int): Int
  def value(i: Int): Double
  def copyIndices(to: Long): Unit
  def copyValues(to: Long): Unit
}

/** In a row. */
private[raydpml] final class VectorInRow extends GivenVector {
  private val row = new UnsafeRow(4)
  private var values: UnsafeArrayData = _

  def pointTo(cells: Cells, i: Int): Unit = {
    row.pointTo(cells.memory, cells.start(i), cells.length(i))
    values = row.getArray(3)
  }

  override def isDense: Boolean = VectorEncoder.isDense(row)
  override def size: Int = VectorEncoder.size(row)
  override def count: Int = values.numElements
  override def index(i: Int): Int = row.getArray(2).getInt(i)
  override def value(i: Int): Double = values.getDouble(i)
  override def copyIndices(to: Long): Unit = copy(row.getArray(2), 4, to)
  override def copyValues(to: Long): Unit = copy(values, 8, to)

  private def copy(given: UnsafeArrayData, width: Int, to: Long): Unit = {
    val header = UnsafeArrayData.calculateHeaderPortionInBytes(given.numElements)
    Platform.copyMemory(given.getBaseObject, given.getBaseOffset + header, null, to, given.numElements.toLong * width)
  }
}

/** In column vectors. */
private[raydpml] final class VectorInColumns(column: ColumnVector) extends GivenVector {
  private val kinds = column.getChild(0)
  private val sizes = column.getChild(1)
  private val indices = Places.of(column.getChild(2))
  private val values = Places.of(column.getChild(3))
  private var row = 0

  def pointTo(row: Int): Unit = this.row = row

  override def isDense: Boolean = kinds.getByte(row) == 1
  override def size: Int = if (isDense) count else sizes.getInt(row)
  override def count: Int = values.length(row)
  override def index(i: Int): Int = indices.elements.getInt(indices.first(row) + i)
  override def value(i: Int): Double = values.elements.getDouble(values.first(row) + i)
  override def copyIndices(to: Long): Unit = FixedValues.Ints.copy(indices.elements, indices.first(row), indices.length(row), to)
  override def copyValues(to: Long): Unit = FixedValues.Doubles.copy(values.elements, values.first(row), values.length(row), to)
}
