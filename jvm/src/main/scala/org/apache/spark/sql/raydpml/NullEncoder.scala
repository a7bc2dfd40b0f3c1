package org.apache.spark.sql.raydpml

import java.util.{List => JList}

import org.apache.arrow.memory.ArrowBuf
import org.apache.arrow.vector.ipc.message.ArrowFieldNode

import org.apache.spark.sql.vectorized.ColumnVector

/** Columns of the type void, and the elements of `array()`: Arrow only counts them. */
private[raydpml] final class NullEncoder(room: BlockRoom) extends ColumnEncoder(room, 0) {
  override def finish(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = nodes.add(new ArrowFieldNode(rows, rows))
  override protected def values(cells: Cells): Unit = ()
  override protected def values(vector: ColumnVector, from: Int, count: Int): Unit = ()
  override protected def mixValues(hashes: Array[Long], first: Int, count: Int): Unit = ()
  override def bytes: Long = 0
  override protected def finishValues(nodes: JList[ArrowFieldNode], buffers: JList[ArrowBuf]): Unit = ()
  override protected def closeValues(): Unit = ()
}
