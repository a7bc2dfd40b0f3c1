package org.apache.spark.sql.raydpml

import java.lang.ref.{Cleaner, WeakReference}
import java.util.concurrent.ConcurrentHashMap

import org.apache.spark.SparkContext
import org.apache.spark.scheduler.SchedulerBackend
import org.apache.spark.scheduler.cluster.raydpml.RaySchedulerBackend

/** Keeps the blocks of a Ray Dataset alive for as long as anything in the driver JVM refers to it.
  *
  * A derived DataFrame has no Python parent, so the lease cannot belong to Python: plans and scans hold this object, and when the
  * last of them is collected the master is told to let the blocks go.
  */
private[raydpml] final class BlockLease(val id: String)

private[raydpml] object BlockLease {
  private val cleaner = Cleaner.create()

  private val open = new ConcurrentHashMap[String, WeakReference[BlockLease]]()

  /** One lease object per id, however often Spark asks the source for its table. */
  def hold(id: String): BlockLease = synchronized {
    val known = open.get(id)
    val lease = if (known == null) null else known.get
    if (lease != null) lease else create(id)
  }

  private def create(id: String): BlockLease = {
    val backend = SparkContext.getOrCreate().schedulerBackend match {
      case ray: RaySchedulerBackend => ray
      case other: SchedulerBackend =>
        throw new IllegalStateException(
          s"Ray Datasets can be read only in a session of raydp_ml.init_spark, this one runs on ${other.getClass.getName}")
    }
    val lease = new BlockLease(id)
    open.put(id, new WeakReference(lease))
    val release: Runnable = () => {
      open.remove(id)
      backend.releaseLease(id)
    }
    cleaner.register(lease, release)
    lease
  }
}
