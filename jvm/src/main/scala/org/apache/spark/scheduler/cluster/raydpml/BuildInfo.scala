package org.apache.spark.scheduler.cluster.raydpml

import java.util.Properties

/** What this jar was compiled against, written into it by raydp_ml/cluster/jar.py. */
private[spark] object BuildInfo {

  private lazy val properties: Properties = {
    val loaded = new Properties()
    val stream = getClass.getResourceAsStream("/raydp-ml-build.properties")
    if (stream != null) {
      try loaded.load(stream)
      finally stream.close()
    }
    loaded
  }

  private def line(version: String): String = version.split('.').take(2).mkString(".")

  /** Scala signatures of Spark's private classes change with every minor line: a jar fits one line only. */
  def requireFits(running: String): Unit = {
    val built = properties.getProperty("spark.version", "unknown")
    if (line(built) != line(running)) {
      throw new IllegalStateException(
        s"the raydp-ml jar was compiled for Spark $built, but Spark $running is running; " +
          "build the right one with: python -m raydp_ml.build_jar")
    }
  }
}
