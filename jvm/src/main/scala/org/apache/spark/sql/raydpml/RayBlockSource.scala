package org.apache.spark.sql.raydpml

import java.util
import java.util.OptionalLong

import org.apache.spark.SparkContext
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.connector.catalog.{SupportsRead, Table, TableCapability, TableProvider}
import org.apache.spark.sql.connector.expressions.Transform
import org.apache.spark.sql.connector.read._
import org.apache.spark.sql.internal.SQLConf
import org.apache.spark.sql.types.StructType
import org.apache.spark.sql.util.CaseInsensitiveStringMap
import org.apache.spark.sql.vectorized.ColumnarBatch

/** Data source over the blocks of a Ray Dataset; raydp_ml/exchange/inbound.py names it and gives schema, lease and blocks. */
class RayBlockSource extends TableProvider {
  override def supportsExternalMetadata(): Boolean = true

  override def inferSchema(options: CaseInsensitiveStringMap): StructType =
    throw new UnsupportedOperationException("the schema is given by raydp_ml.to_spark")

  override def getTable(
      schema: StructType,
      partitioning: Array[Transform],
      properties: util.Map[String, String]): Table = {
    val options = new CaseInsensitiveStringMap(properties)
    new RayBlockTable(schema, BlockLease.hold(options.get("lease")), RayBlock.parse(options.get("blocks")))
  }
}

private[raydpml] class RayBlockTable(tableSchema: StructType, lease: BlockLease, blocks: Array[RayBlock])
  extends Table with SupportsRead {
  override def name(): String = "ray_dataset"
  override def schema(): StructType = tableSchema
  override def capabilities(): util.Set[TableCapability] = util.EnumSet.of(TableCapability.BATCH_READ)
  override def newScanBuilder(options: CaseInsensitiveStringMap): ScanBuilder =
    new RayBlockScanBuilder(tableSchema, lease, blocks)
}

private[raydpml] class RayBlockScanBuilder(full: StructType, lease: BlockLease, blocks: Array[RayBlock])
  extends ScanBuilder with SupportsPushDownRequiredColumns with SupportsPushDownLimit {
  private var wanted = full
  private var limited = blocks
  private var limit = Option.empty[Int]

  /** By name only: Spark gives types with fewer fields of structs, of which blocks have all, and takes one column for another if
    * their names differ in case.
    */
  override def pruneColumns(required: StructType): Unit = {
    val names = required.fieldNames.toSet
    wanted = StructType(full.filter(field => names(field.name)))
  }

  /** No block after those that hold enough rows, and no more rows of a block than that. */
  override def pushLimit(limit: Int): Boolean = {
    this.limit = Some(limit)
    // Blocks whose rows are not known add none.
    val before = blocks.scanLeft(0L)((rows, block) => rows + math.max(0L, block.rows))
    limited = blocks.zip(before).collect { case (block, rows) if rows < limit => block.first(limit) }
    true
  }

  /** Each block gives up to so many rows, so Spark still has to count. */
  override def isPartiallyPushed(): Boolean = true

  override def build(): Scan = new RayBlockScan(wanted, full.length, lease, limited, limit)
}

private[sql] class RayBlockScan(
    wanted: StructType,
    columns: Int,
    lease: BlockLease,
    blocks: Array[RayBlock],
    limit: Option[Int])
  extends Scan with Batch with SupportsReportStatistics {

  override def readSchema(): StructType = wanted
  override def description(): String = s"Ray Dataset, ${blocks.length} blocks, lease ${lease.id}"
  override def toBatch: Batch = this

  override def planInputPartitions(): Array[InputPartition] =
    if (wanted.isEmpty) counts.toArray
    else RayBlock.together(blocks.toSeq, cores, SQLConf.get).map(some => BlocksPartition.of(lease, some, limit)).toArray

  private def cores: Int = SparkContext.getOrCreate().defaultParallelism

  /** Few partitions, however many blocks there are: no row is read. */
  private def counts: Seq[InputPartition] = {
    val (unknown, known) = blocks.toSeq.partition(_.rows < 0)
    val perNode = unknown.groupBy(_.nodes).toSeq.flatMap { case (_, near) =>
      near.grouped(math.max(1, near.length / cores)).map(some => UncountedPartition(BlocksPartition.of(lease, some, limit)))
    }
    if (known.isEmpty) perNode else RowCountPartition(known.map(_.rows).sum) +: perNode
  }

  override def createReaderFactory(): PartitionReaderFactory = RayBlockReaderFactory(wanted)

  /** Sizes in proportion to the columns read, so that Spark can choose a broadcast join where one pays. */
  override def estimateStatistics(): Statistics = new Statistics {
    override def sizeInBytes(): OptionalLong =
      OptionalLong.of(math.max(1L, blocks.map(_.bytes).filter(_ > 0).sum * math.max(1, wanted.length) / math.max(1, columns)))
    override def numRows(): OptionalLong =
      if (blocks.exists(_.rows < 0)) OptionalLong.empty() else OptionalLong.of(blocks.map(_.rows).sum)
  }
}

/** Blocks that one task reads, one after the other; of each no more rows than the limit. */
private[raydpml] case class BlocksPartition(lease: String, indices: Seq[Int], limit: Option[Int], nodes: Seq[String])
  extends InputPartition {
  override def preferredLocations(): Array[String] = nodes.toArray
}

private[raydpml] object BlocksPartition {
  def of(lease: BlockLease, blocks: Seq[RayBlock], limit: Option[Int]): BlocksPartition =
    BlocksPartition(lease.id, blocks.map(_.index), limit, RayBlock.nodesOf(blocks))
}

/** Rows without columns, as a count needs them, of all blocks whose rows are known. */
private[raydpml] case class RowCountPartition(rows: Long) extends InputPartition

/** Rows without columns of blocks that have to be asked how many they have. */
private[raydpml] case class UncountedPartition(blocks: BlocksPartition) extends InputPartition {
  override def preferredLocations(): Array[String] = blocks.preferredLocations()
}

private[raydpml] case class RayBlockReaderFactory(wanted: StructType) extends PartitionReaderFactory {
  override def supportColumnarReads(partition: InputPartition): Boolean = true

  override def createReader(partition: InputPartition): PartitionReader[InternalRow] =
    throw new UnsupportedOperationException("Ray blocks are read as columns")

  override def createColumnarReader(partition: InputPartition): PartitionReader[ColumnarBatch] = partition match {
    case blocks: BlocksPartition => new RayBlockReader(blocks, wanted)
    case RowCountPartition(rows) => new RowCountReader(rows)
    case UncountedPartition(blocks) => new RowCountReader(HostClient.rows(blocks))
    case other => throw new IllegalArgumentException(s"not a partition of Ray blocks: $other")
  }
}

private[raydpml] class RowCountReader(rows: Long) extends PartitionReader[ColumnarBatch] {
  private var left = rows
  private val batch = new ColumnarBatch(Array.empty)
  override def next(): Boolean = {
    val more = left > 0
    val size = math.min(left, 1 << 20)
    batch.setNumRows(size.toInt)
    left -= size
    more
  }
  override def get(): ColumnarBatch = batch
  override def close(): Unit = ()
}
