package org.apache.spark.sql.raydpml

import java.util.zip.ZipFile

import scala.collection.JavaConverters._
import scala.util.control.NonFatal

import org.apache.spark.sql.SparkSession
import org.apache.spark.util.Utils

/** Loads the classes that drivers and executors load when they start, so that a JVM run with -XX:ArchiveClassesAtExit keeps them.
  *
  * Started by raydp_ml/cluster/class_archive.py with the path of this jar.
  */
object ClassArchive {

  /** Loaded by an executor, or by a driver that Python talks to, but by no job in local mode. Names that a Spark lacks are skipped. */
  private val others = Seq(
    "org.apache.spark.api.python.PythonGatewayServer",
    "org.apache.spark.api.python.Py4JServer",
    "org.apache.spark.api.python.PythonRDD",
    "org.apache.spark.api.python.PythonRunner",
    "org.apache.spark.api.python.PythonWorkerFactory",
    "org.apache.spark.deploy.SparkSubmit",
    "org.apache.spark.executor.CoarseGrainedExecutorBackend",
    "org.apache.spark.network.netty.NettyBlockTransferService",
    "org.apache.spark.network.client.TransportClient",
    "org.apache.spark.network.crypto.AuthClientBootstrap",
    "org.apache.spark.network.crypto.AuthServerBootstrap",
    "org.apache.spark.network.sasl.SaslClientBootstrap",
    "org.apache.spark.network.sasl.SaslServerBootstrap",
    "org.apache.spark.scheduler.cluster.CoarseGrainedSchedulerBackend",
    "org.apache.spark.scheduler.TaskSchedulerImpl",
    "org.apache.spark.sql.execution.arrow.ArrowConverters",
    "org.apache.spark.sql.execution.arrow.ArrowWriter",
    "org.apache.spark.sql.execution.python.ArrowPythonRunner",
    "org.apache.spark.storage.ShuffleBlockFetcherIterator",
    "org.apache.arrow.memory.RootAllocator",
    "org.apache.arrow.vector.VectorSchemaRoot",
    "org.apache.arrow.vector.ipc.ArrowStreamReader",
    "org.apache.arrow.vector.ipc.ArrowStreamWriter",
    "py4j.ClientServer",
    "py4j.GatewayServer")

  def main(args: Array[String]): Unit = {
    val spark = SparkSession.builder().master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try {
      spark.range(0, 4000, 1, 4)
        .selectExpr("id", "id % 7 as k", "cast(id as string) as s", "rand(1) as r")
        .createOrReplaceTempView("rows")
      spark.sql("select k, sum(r), max(s), count(*) from rows group by k order by k").collect()
      spark.sql("select a.id from rows a join rows b on a.id = b.k where a.r > 0.5").count()
      spark.table("rows").cache().count()
      spark.sql("select sum(id) from rows").collect()
    } finally spark.stop()
    (ours(args(0)) ++ others).foreach(load)
  }

  private def ours(jar: String): Seq[String] = {
    val file = new ZipFile(jar)
    try file.entries().asScala.map(_.getName).filter(_.endsWith(".class")).map(_.stripSuffix(".class").replace('/', '.')).toList
    finally file.close()
  }

  private def load(name: String): Unit =
    try Class.forName(name, false, Utils.getContextOrSparkClassLoader)
    catch {
      case _: ClassNotFoundException | _: LinkageError => ()
      case NonFatal(e) => throw new IllegalStateException(s"loading $name", e)
    }
}
