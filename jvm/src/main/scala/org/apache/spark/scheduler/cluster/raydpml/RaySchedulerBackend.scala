package org.apache.spark.scheduler.cluster.raydpml

import java.util.concurrent.{Executors, ScheduledExecutorService, ThreadFactory, TimeUnit}
import java.util.concurrent.atomic.AtomicBoolean

import scala.collection.JavaConverters._
import scala.concurrent.Future
import scala.util.control.NonFatal

import com.fasterxml.jackson.databind.JsonNode

import org.apache.spark.{SparkConf, SparkContext, SparkException}
import org.apache.spark.deploy.security.HadoopDelegationTokenManager
import org.apache.spark.internal.{config, Logging}
import org.apache.spark.resource.ResourceProfile
import org.apache.spark.rpc.{RpcAddress, RpcEndpointAddress}
import org.apache.spark.scheduler._
import org.apache.spark.scheduler.cluster.{CoarseGrainedSchedulerBackend, SchedulerBackendUtils}
import org.apache.spark.util.Utils

/** Asks the master in the driver's Python process for executors, and hears from it which ones ended.
  *
  * It decides nothing: how many executors there are is Spark's wish, and the master reconciles it with what runs.
  */
private[spark] class RaySchedulerBackend(sc: SparkContext, scheduler: TaskSchedulerImpl)
  extends CoarseGrainedSchedulerBackend(scheduler, sc.env.rpcEnv) with Logging {

  private val initialExecutors = SchedulerBackendUtils.getInitialTargetExecutorNumber(sc.conf)
  private val appId = MasterConnection.environment("RAYDP_ML_APP_ID")
  private val stopped = new AtomicBoolean(false)
  private lazy val master = new MasterConnection(received, () => masterGone())

  /** How long a disconnected executor waits for the master's word on why, before it counts as lost without one. */
  private val lossReportSeconds = 10L
  private val timer: ScheduledExecutorService =
    Executors.newSingleThreadScheduledExecutor(new ThreadFactory {
      override def newThread(task: Runnable): Thread = {
        val thread = new Thread(task, "raydp-ml-backend-timer")
        thread.setDaemon(true)
        thread
      }
    })

  /** Time for the jobs that run to fail with the reason before the SparkContext stops, which fails them without one. */
  private val giveUpSeconds = 2L

  /** How often the master hears which executors have tasks; those without lend their CPUs after a while. */
  private val taskReportMillis = 200L
  private var reportedBusy = Set.empty[String]

  override def applicationId(): String = appId

  override def sufficientResourcesRegistered(): Boolean =
    totalRegisteredExecutors.get() >= initialExecutors * minRegisteredRatio

  override def start(): Unit = {
    StageProfiles.allow(sc.resourceProfileManager)
    super.start()
    sc.addSparkListener(new SparkListener {
      override def onExecutorAdded(added: SparkListenerExecutorAdded): Unit =
        master.send(master.message("registered").put("id", added.executorId))
    })
    sayHello()
    master.listen()
    timer.scheduleWithFixedDelay(() => reportTasks(), taskReportMillis, taskReportMillis, TimeUnit.MILLISECONDS)
    if (!Utils.isDynamicAllocationEnabled(conf)) {
      doRequestTotalExecutors(Map(sc.resourceProfileManager.defaultResourceProfile -> initialExecutors))
    }
  }

  private def sayHello(): Unit = {
    val hello = master.message("hello")
    hello.put("driver_url", RpcEndpointAddress(
      conf.get(config.DRIVER_HOST_ADDRESS),
      conf.get(config.DRIVER_PORT),
      CoarseGrainedSchedulerBackend.ENDPOINT_NAME).toString)
    // Only what an executor must know before it can fetch the rest from the driver goes on its command line; Spark's own
    // filter leaves the authentication secret out. The --add-opens flags are in the executor's extraJavaOptions.
    val options = hello.putArray("java_options")
    Utils.sparkJavaOpts(conf, SparkConf.isExecutorStartupConf).foreach(option => options.add(option))
    sc.conf.get(config.EXECUTOR_JAVA_OPTIONS).foreach { all =>
      Utils.splitCommandString(all).foreach(option => options.add(option))
    }
    val environment = hello.putObject("environment")
    sc.executorEnvs.foreach { case (name, value) => environment.put(name, value) }
    val settings = hello.putObject("settings")
    val prefixes = Seq("spark.ray.", "spark.executor.", "raydp.", "spark.memory.offHeap.", "spark.local.dir")
    sc.conf.getAll
      .filter { case (key, _) => prefixes.exists(key.startsWith) }
      .foreach { case (key, value) => settings.put(key, value) }
    settings.put("spark.executor.cores", sc.conf.get(config.EXECUTOR_CORES).toString)
    settings.put("spark.executor.memory", s"${sc.executorMemory}m")
    if (!master.hello(hello)) throw new IllegalStateException("the raydp-ml master closed the control connection")
  }

  /** Looks at what runs instead of counting events, because Spark's listener bus drops some when it is behind. */
  private def reportTasks(): Unit =
    try {
      val busy = scheduler.runningTasksByExecutors.collect { case (id, tasks) if tasks > 0 => id }.toSet
      if (busy != reportedBusy && !stopped.get()) {
        val message = master.message("tasks")
        val ids = message.putArray("busy")
        busy.foreach(id => ids.add(id))
        master.send(message)
        reportedBusy = busy
      }
    } catch {
      case NonFatal(e) => logWarning("the master did not hear which executors have tasks", e)
    }

  private def received(message: JsonNode): Unit = message.get("op").asText match {
    case "exited" =>
      removeExecutor(
        message.get("id").asText,
        ExecutorExited(
          message.get("code").asInt,
          message.get("by_app").asBoolean,
          message.get("reason").asText))
    case "decommission" =>
      val leaving = message.get("ids").elements().asScala.map(_.asText).toArray
      val why = ExecutorDecommissionInfo(message.get("reason").asText)
      // The totals stay as they are: the master starts others in their place.
      decommissionExecutors(leaving.map(id => (id, why)), adjustTargetNumExecutors = false, triggeredByExecutor = false)
    case "fail" =>
      giveUp(message.get("reason").asText)
    case other => logWarning(s"the raydp-ml master sent an unknown message: $other")
  }

  /** The driver's Python process ended, or closed the connection: there is nobody left to start executors. */
  private def masterGone(): Unit =
    if (!stopped.get()) giveUp("the raydp-ml master in the driver's Python process is gone")

  /** Jobs that run fail with the reason; those that the program starts later find a stopped SparkContext instead of waiting. */
  private def giveUp(reason: String): Unit = {
    logError(s"the application cannot go on: $reason")
    try scheduler.error(reason)
    catch { case e: SparkException => logDebug("no job ran that could fail", e) }
    finally {
      val stop: Runnable = () => sc.stopInNewThread()
      if (!stopped.get()) timer.schedule(stop, giveUpSeconds, TimeUnit.SECONDS)
    }
  }

  override protected def doRequestTotalExecutors(totals: Map[ResourceProfile, Int]): Future[Boolean] = {
    val message = master.message("total")
    val profiles = message.putArray("profiles")
    totals.foreach { case (profile, total) =>
      val node = profiles.addObject().put("id", profile.id).put("total", total)
      val resources = node.putObject("resources")
      profile.executorResources.foreach { case (name, request) => resources.put(name, request.amount) }
    }
    Future.successful(master.send(message))
  }

  override protected def doKillExecutors(executorIds: Seq[String]): Future[Boolean] = {
    val message = master.message("kill")
    val ids = message.putArray("ids")
    executorIds.foreach(id => ids.add(id))
    Future.successful(master.send(message))
  }

  /** Called when nothing in the JVM refers to a lent Ray Dataset any more; see sql/raydpml/BlockLease.scala. */
  def releaseLease(lease: String): Unit =
    if (!stopped.get()) master.send(master.message("release").put("lease", lease))

  override def createTokenManager(): Option[HadoopDelegationTokenManager] =
    Some(new HadoopDelegationTokenManager(sc.conf, sc.hadoopConfiguration, driverEndpoint))

  override def createDriverEndpoint(): DriverEndpoint = new RayDriverEndpoint

  /** A lost connection says nothing about why. As Spark's Kubernetes backend does, stop offering tasks to the executor and let the
    * master's report drive the rest, so that a dead node is not counted as the application's failure.
    */
  private class RayDriverEndpoint extends DriverEndpoint {
    override def onDisconnected(remote: RpcAddress): Unit =
      addressToExecutorId.get(remote).foreach { id =>
        disableExecutor(id)
        val report: Runnable = () =>
          removeExecutor(id, ExecutorProcessLost("the connection was lost, and no report on the executor came"))
        if (!stopped.get()) timer.schedule(report, lossReportSeconds, TimeUnit.SECONDS)
      }
  }

  override def stop(): Unit =
    if (stopped.compareAndSet(false, true)) {
      try super.stop()
      finally {
        timer.shutdownNow()
        master.send(master.message("stop"))
        master.close()
      }
    }
}
