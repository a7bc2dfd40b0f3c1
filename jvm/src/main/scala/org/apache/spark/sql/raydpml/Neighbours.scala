package org.apache.spark.sql.raydpml

import org.apache.spark.rdd.{PartitionCoalescer, PartitionGroup, RDD}

/** Puts neighbouring partitions together, so that the rows keep their order. Spark's own coalescer puts together what lies on one host. */
private[raydpml] object Neighbours extends PartitionCoalescer with Serializable {
  override def coalesce(maxPartitions: Int, parent: RDD[_]): Array[PartitionGroup] = {
    val partitions = parent.partitions
    val groups = math.min(maxPartitions, partitions.length)
    Array.tabulate(groups) { group =>
      val members = partitions.slice(share(partitions.length, group, groups), share(partitions.length, group + 1, groups))
      val hosts = members.flatMap(member => parent.context.getPreferredLocs(parent, member.index).headOption.map(_.host))
      val most = if (hosts.isEmpty) None else Some(hosts.groupBy(identity).maxBy(_._2.length)._1)
      val neighbours = new PartitionGroup(most)
      neighbours.partitions ++= members
      neighbours
    }
  }

  private def share(all: Int, group: Int, groups: Int): Int = (all.toLong * group / groups).toInt
}
