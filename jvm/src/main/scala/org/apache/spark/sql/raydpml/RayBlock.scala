package org.apache.spark.sql.raydpml

import scala.collection.mutable.ArrayBuffer

import com.fasterxml.jackson.databind.ObjectMapper

import org.apache.spark.sql.internal.SQLConf

/** A block: its row count and its size in the object store (-1: not known), and the nodes (addresses) that hold it. */
private[raydpml] case class RayBlock(index: Int, rows: Long, bytes: Long, nodes: Seq[String]) {

  /** The same with no more rows than that. */
  def first(limit: Long): RayBlock =
    if (rows <= limit) this else copy(rows = limit, bytes = (bytes.toDouble * limit / rows).toLong)
}

private[raydpml] object RayBlock {
  def parse(json: String): Array[RayBlock] = {
    val blocks = new ObjectMapper().readTree(json)
    Array.tabulate(blocks.size()) { i =>
      val block = blocks.get(i)
      val nodes = block.get("nodes")
      RayBlock(i, block.get("rows").asLong, block.get("bytes").asLong, (0 until nodes.size()).map(n => nodes.get(n).asText))
    }
  }

  /** Neighbours that one task reads, in the sizes in which Spark's own sources put files together (FilePartition.maxSplitBytes and
    * getFilePartitions): as long as every core has something, up to `spark.sql.files.maxPartitionBytes`, where a block counts for
    * `spark.sql.files.openCostInBytes` more than it holds. Blocks of other nodes join only if they are smaller than that cost.
    */
  def together(blocks: Seq[RayBlock], cores: Int, conf: SQLConf): Seq[Seq[RayBlock]] = {
    val open = conf.filesOpenCostInBytes
    def size(block: RayBlock): Long = if (block.bytes < 0) conf.filesMaxPartitionBytes else block.bytes
    val most = math.min(conf.filesMaxPartitionBytes, math.max(open, blocks.map(size(_) + open).sum / math.max(1, cores)))
    val groups = ArrayBuffer.empty[ArrayBuffer[RayBlock]]
    var filled = 0L
    for (block <- blocks) {
      val near = groups.lastOption.exists(group => group.head.nodes == block.nodes || size(block) < open)
      if (near && filled + size(block) <= most) groups.last += block
      else {
        groups += ArrayBuffer(block)
        filled = 0
      }
      filled += size(block) + open
    }
    groups.map(_.toSeq).toSeq
  }

  /** The nodes that hold most of them. */
  def nodesOf(blocks: Seq[RayBlock]): Seq[String] = {
    val held = blocks.flatMap(block => block.nodes.map(_ -> block.bytes)).groupBy(_._1)
    val bytes = held.toSeq.map { case (node, sizes) => node -> sizes.map(_._2).sum }
    bytes.filter(_._2 == bytes.map(_._2).max).map(_._1)
  }
}
