package org.apache.spark.scheduler.cluster.raydpml

import java.io.{BufferedReader, InputStreamReader, OutputStreamWriter, PrintWriter}
import java.net.{InetAddress, Socket}
import java.nio.charset.StandardCharsets.UTF_8

import com.fasterxml.jackson.databind.{JsonNode, ObjectMapper}
import com.fasterxml.jackson.databind.node.ObjectNode

import org.apache.spark.internal.Logging

/** The JVM's end of the control protocol; raydp_ml/cluster/master.py is the other end.
  *
  * One JSON object per line over loopback, the token in the first one. JVM to master: hello, total, kill, registered, tasks, release, stop.
  * Master to JVM: exited, decommission, fail.
  */
private[spark] class MasterConnection(onMessage: JsonNode => Unit, onClosed: () => Unit) extends Logging {

  private val mapper = new ObjectMapper()
  private val socket: Socket = {
    val address = MasterConnection.environment("RAYDP_ML_MASTER_PORT")
    val opened = new Socket(InetAddress.getLoopbackAddress, address.toInt)
    opened.setTcpNoDelay(true)
    opened
  }
  private val out = new PrintWriter(new OutputStreamWriter(socket.getOutputStream, UTF_8), true)
  private val in = new BufferedReader(new InputStreamReader(socket.getInputStream, UTF_8))

  def message(op: String): ObjectNode = mapper.createObjectNode().put("op", op)

  /** False when the master is gone. */
  def send(message: ObjectNode): Boolean = out.synchronized {
    out.println(mapper.writeValueAsString(message))
    !out.checkError()
  }

  def hello(message: ObjectNode): Boolean =
    send(message.put("token", MasterConnection.environment("RAYDP_ML_MASTER_TOKEN")))

  def listen(): Unit = {
    val reader = new Thread("raydp-ml-master-connection") {
      override def run(): Unit =
        try {
          Iterator.continually(in.readLine()).takeWhile(_ != null).foreach { line =>
            onMessage(mapper.readTree(line))
          }
        } catch {
          case e: java.io.IOException => logDebug("control connection ended", e)
        } finally onClosed()
    }
    reader.setDaemon(true)
    reader.start()
  }

  def close(): Unit = socket.close()
}

private[spark] object MasterConnection {
  def environment(name: String): String = Option(System.getenv(name)).getOrElse {
    throw new IllegalStateException(s"$name is not set: sessions on Ray are started by raydp_ml.init_spark")
  }
}
