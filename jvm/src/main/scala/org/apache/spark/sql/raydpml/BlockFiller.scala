package org.apache.spark.sql.raydpml

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{UnsafeProjection, UnsafeRow}
import org.apache.spark.sql.types.{ArrayType, StructType}
import org.apache.spark.sql.vectorized.ColumnarBatch

/** A block of rows that is ready to be written. */
private[raydpml] case class FilledBlock(encoder: BlockEncoder, rows: Int, bytes: Long)

/** Takes what a task computes, block by block. */
private[raydpml] abstract class BlockFiller(plan: ExportPlan) {
  val digest = new RowDigest

  def hasNext: Boolean

  /** The next rows, of about as many bytes as a block shall have. The caller closes the encoder. */
  def fill(room: BlockRoom, expectedRows: Int): FilledBlock

  /** Lengths of the vectors, in the order of the plan's vector columns; -1 where no row had one. */
  def vectorSizes: Seq[Int]

  protected def closedOnFailure[E <: BlockEncoder](encoder: E)(work: E => FilledBlock): FilledBlock =
    try work(encoder)
    catch {
      case e: Throwable =>
        encoder.close()
        throw e
    }
}

private[raydpml] object BlockFiller {

  /** The size of a column's vectors, from that of earlier and of more of them; -1 where there were none. */
  def sameSize(name: String, before: Int, more: Int): Int = {
    if (before != -1 && more != -1 && before != more) {
      throw new IllegalArgumentException(s"column '$name' holds vectors of $before and of $more elements")
    }
    math.max(before, more)
  }
}

private[raydpml] class RowFiller(plan: ExportPlan, schema: StructType, rows: Iterator[InternalRow])
  extends BlockFiller(plan) {

  private lazy val projection = UnsafeProjection.create(schema)
  private val sizes = Array.fill(plan.vectors.length)(-1)

  override def hasNext: Boolean = rows.hasNext

  override def vectorSizes: Seq[Int] = sizes.toSeq

  override def fill(room: BlockRoom, expectedRows: Int): FilledBlock =
    closedOnFailure(RowEncoder.create(schema, plan, room, expectedRows)) { encoder =>
      var bytes = 0L
      var count = 0
      while (bytes < plan.blockBytes && rows.hasNext) {
        val row = rows.next() match {
          case unsafe: UnsafeRow => unsafe
          case other => projection(other)
        }
        digest.add(row)
        checkVectors(row)
        encoder.add(row)
        bytes += row.getSizeInBytes
        count += 1
      }
      FilledBlock(encoder, count, bytes)
    }

  private def checkVectors(row: UnsafeRow): Unit = {
    var i = 0
    while (i < sizes.length) {
      val column = plan.vectors(i)
      if (!row.isNullAt(column)) {
        val size = schema(column).dataType match {
          case _: ArrayType => row.getArray(column).numElements()
          case _ => VectorEncoder.size(row.getStruct(column, 4))
        }
        sizes(i) = BlockFiller.sameSize(schema(column).name, sizes(i), size)
      }
      i += 1
    }
  }
}

private[raydpml] class ColumnarFiller(plan: ExportPlan, schema: StructType, batches: Iterator[ColumnarBatch])
  extends BlockFiller(plan) {

  private var batch: ColumnarBatch = _
  private var taken = 0
  private val sizes = Array.fill(plan.vectors.length)(-1)

  override def hasNext: Boolean = {
    while ((batch == null || taken == batch.numRows) && batches.hasNext) {
      batch = batches.next()
      taken = 0
    }
    batch != null && taken < batch.numRows
  }

  override def vectorSizes: Seq[Int] = sizes.toSeq

  override def fill(room: BlockRoom, expectedRows: Int): FilledBlock =
    closedOnFailure(new ColumnarEncoder(schema, plan, room, expectedRows)) { encoder =>
      var count = 0
      while (encoder.bytes < plan.blockBytes && hasNext) {
        val next = math.min(slice(count, encoder.bytes), batch.numRows - taken)
        encoder.add(batch, taken, next, digest)
        taken += next
        count += next
      }
      checkVectors(encoder)
      FilledBlock(encoder, count, encoder.bytes)
    }

  private def checkVectors(encoder: ColumnarEncoder): Unit =
    plan.vectors.indices.foreach { i =>
      sizes(i) = BlockFiller.sameSize(schema(plan.vectors(i)).name, sizes(i), encoder.vectorSize(plan.vectors(i)))
    }

  /** How many rows to take at once: few as long as little is known of their size, then as many as the block still has room for. */
  private def slice(count: Int, bytes: Long): Int =
    if (count == 0) {
      ColumnarFiller.FirstRows
    } else {
      val room = (plan.blockBytes - bytes) / math.max(1L, bytes / count)
      math.min(math.min(ColumnarEncoder.Rows, count.toLong * ColumnarFiller.FirstRows), math.max(1L, room)).toInt
    }
}

private[raydpml] object ColumnarFiller {
  private val FirstRows = 16
}
