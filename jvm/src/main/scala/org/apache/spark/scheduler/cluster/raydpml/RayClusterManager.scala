package org.apache.spark.scheduler.cluster.raydpml

import org.apache.spark.SparkContext
import org.apache.spark.scheduler.{ExternalClusterManager, SchedulerBackend, TaskScheduler, TaskSchedulerImpl}

/** Wires Spark to executors that Ray places; chosen for the master URLs `ray` and `spark-ray`.
  *
  * SparkSubmit refuses `ray` before any cluster manager is asked, so init_spark uses a URL that begins with `spark`.
  */
private[spark] class RayClusterManager extends ExternalClusterManager {

  override def canCreate(masterURL: String): Boolean =
    masterURL == "ray" || masterURL.startsWith("ray:") || masterURL.startsWith("spark-ray")

  override def createTaskScheduler(sc: SparkContext, masterURL: String): TaskScheduler = {
    BuildInfo.requireFits(sc.version)
    new TaskSchedulerImpl(sc)
  }

  override def createSchedulerBackend(
      sc: SparkContext,
      masterURL: String,
      scheduler: TaskScheduler): SchedulerBackend =
    new RaySchedulerBackend(sc, scheduler.asInstanceOf[TaskSchedulerImpl])

  override def initialize(scheduler: TaskScheduler, backend: SchedulerBackend): Unit =
    scheduler.asInstanceOf[TaskSchedulerImpl].initialize(backend)
}
