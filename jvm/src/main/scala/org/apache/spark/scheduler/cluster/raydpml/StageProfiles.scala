package org.apache.spark.scheduler.cluster.raydpml

import org.apache.spark.internal.Logging
import org.apache.spark.resource.ResourceProfileManager

/** Lets a cluster manager of ours take part in stage-level scheduling.
  *
  * ResourceProfileManager (private, seen in Spark 3.5.9 and 4.0 to 4.3) allows resource profiles by the text of the master URL, and
  * has no way for an external cluster manager to say that it can do it. All that Kubernetes does for profiles the backend here does
  * as well, so the field that stands for it is set; tests/session/test_elasticity.py notices when the field is another one.
  */
private[spark] object StageProfiles extends Logging {

  def allow(manager: ResourceProfileManager): Unit =
    try {
      val field = classOf[ResourceProfileManager].getDeclaredField("isK8s")
      field.setAccessible(true)
      field.setBoolean(manager, true)
    } catch {
      case e: ReflectiveOperationException =>
        logWarning("this Spark does not let raydp-ml use resource profiles: stage-level scheduling is off", e)
    }
}
