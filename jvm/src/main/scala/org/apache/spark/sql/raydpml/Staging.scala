package org.apache.spark.sql.raydpml

import java.io.File
import java.nio.file.{Path, Paths}

import org.apache.spark.TaskContext

/** Where this executor's partitions lie until they are in Ray's object store: in memory while there is room, else on disk.
  *
  * The executor's host actor makes both folders, and the import removes the files.
  */
private[raydpml] class Staging(memory: Path, disk: Path, reserveBytes: Long, limitBytes: Long) {

  /** A path for a file of at most about `bytes`, and whether it is on disk for want of room in memory. */
  def path(name: String, bytes: Long): (Path, Boolean) =
    if (memory == disk || memory.toFile.getUsableSpace >= bytes + reserveBytes) (memory.resolve(name), false)
    else (disk.resolve(name), true)

  /** Lets the import catch up before another partition is written.
    *
    * It waits for as long as the staged bytes become fewer: they may also be partitions that nobody can import yet, because blocks
    * are made of several of them.
    */
  def awaitRoom(context: TaskContext): Unit = {
    var least = stagedBytes()
    var progress = System.nanoTime()
    while (least > limitBytes && System.nanoTime() - progress < Staging.PatienceNanos) {
      Thread.sleep(Staging.PollMillis)
      context.killTaskIfInterrupted()
      val now = stagedBytes()
      if (now < least) {
        least = now
        progress = System.nanoTime()
      }
    }
  }

  private def stagedBytes(): Long =
    Seq(memory, disk).distinct.map(folder => Staging.sizes(folder.toFile)).sum
}

private[raydpml] object Staging {
  private val PollMillis = 20L
  private val PatienceNanos = 10L * 1000 * 1000 * 1000

  /** What stays free in memory for everything else that uses it, Ray's object store first. */
  private val ReserveBytes = 64L << 20

  /** Of what is written and not imported, per executor. */
  private val LimitBytes = 1L << 30

  lazy val ofThisExecutor: Staging = {
    val memory = folder("RAYDP_ML_STAGING")
    new Staging(memory, folder("RAYDP_ML_STAGING_DISK"), ReserveBytes, LimitBytes)
  }

  private def folder(variable: String): Path = Paths.get(Option(System.getenv(variable)).getOrElse {
    throw new IllegalStateException(s"$variable is not set: this executor was not started by raydp-ml")
  })

  private def sizes(folder: File): Long =
    Option(folder.listFiles()).map(_.map(_.length()).sum).getOrElse(0L)
}
