package org.apache.spark.sql.raydpml

import org.apache.spark.SparkContext
import org.apache.spark.scheduler.{Pool, SchedulingMode, TaskSchedulerImpl}

/** The scheduler pool whose tasks go first: lost blocks are computed again before the tasks that wait for them run.
  *
  * In Spark's default FIFO order the job that waits for a lost block is the older one and would take every slot that becomes
  * free. init_spark sets spark.scheduler.mode=FAIR, under which jobs without a pool still run first in, first out.
  */
private[raydpml] object RecomputePool {
  val name = "raydp-ml-recompute"

  def ensure(sc: SparkContext): Unit = sc.taskScheduler match {
    case scheduler: TaskSchedulerImpl if scheduler.schedulingMode == SchedulingMode.FAIR =>
      synchronized {
        if (scheduler.rootPool.getSchedulableByName(name) == null) {
          scheduler.rootPool.addSchedulable(new Pool(name, SchedulingMode.FIFO, Int.MaxValue / 2, 1000))
        }
      }
    case _ =>
  }
}
