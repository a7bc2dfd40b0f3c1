package org.apache.spark.sql.raydpml

import java.io.{BufferedReader, InputStreamReader}
import java.net.UnixDomainSocketAddress
import java.nio.ByteBuffer
import java.nio.channels.{Channels, SocketChannel}
import java.nio.charset.StandardCharsets.UTF_8

import com.fasterxml.jackson.databind.{JsonNode, ObjectMapper}
import com.fasterxml.jackson.databind.node.ObjectNode

import org.apache.spark.TaskKilledException

/** An executor's request to the actor that hosts it; raydp_ml/exchange/block_server.py answers.
  *
  * One connection per request over a Unix socket in a directory that only this user may enter, the token first.
  */
private[raydpml] object HostClient {
  private val mapper = new ObjectMapper()

  private def environment(name: String): String = Option(System.getenv(name)).getOrElse {
    throw new IllegalStateException(s"$name is not set: this executor was not started by raydp-ml")
  }

  /** Asks for some columns of a block: the answer tells the file that holds them. */
  def columns(blocks: BlocksPartition, index: Int, columns: Array[String]): HostAnswer = {
    val request = ask(blocks, Seq(index))
    val names = request.putArray("columns")
    columns.foreach(name => names.add(name))
    send(request)
  }

  /** How many rows some blocks have together. */
  def rows(blocks: BlocksPartition): Long = {
    val answer = send(ask(blocks, blocks.indices))
    try answer.told.get("rows").asLong
    finally answer.close()
  }

  private def ask(blocks: BlocksPartition, indices: Seq[Int]): ObjectNode = {
    val request = mapper.createObjectNode().put("token", environment("RAYDP_ML_HOST_TOKEN")).put("lease", blocks.lease)
    blocks.limit.foreach(rows => request.put("limit", rows))
    val wanted = request.putArray("blocks")
    indices.foreach(index => wanted.add(index))
    request
  }

  private def send(request: ObjectNode): HostAnswer = {
    val connection = SocketChannel.open(UnixDomainSocketAddress.of(environment("RAYDP_ML_HOST_SOCKET")))
    try new HostAnswer(connection, request.toString)
    catch {
      case problem: Throwable =>
        connection.close()
        throw problem
    }
  }
}

/** What the host will tell, and may hold for us until this is released or closed. The request is sent at once. */
private[raydpml] final class HostAnswer(connection: SocketChannel, request: String) extends AutoCloseable {
  private val lines = new BufferedReader(new InputStreamReader(Channels.newInputStream(connection), UTF_8))
  say(request)

  /** Waits for the host. */
  lazy val told: JsonNode = {
    val told = new ObjectMapper().readTree(hear())
    if (told.has("lost")) {
      // Not this task's failure: it gives its slot back, so that the block can be computed again, and is scheduled anew.
      throw new TaskKilledException(told.get("lost").asText)
    }
    if (told.has("error")) throw new IllegalStateException(told.get("error").asText)
    told
  }

  private def say(line: String): Unit = {
    val bytes = ByteBuffer.wrap((line + "\n").getBytes(UTF_8))
    while (bytes.hasRemaining) connection.write(bytes)
  }

  private def hear(): String = {
    val answer = lines.readLine()
    if (answer == null) throw new IllegalStateException("the executor's host closed the connection")
    answer
  }

  /** Tells the host that it need not hold anything any longer. Fails when the host had ended before. */
  def release(): Unit =
    try {
      say("{}")
      hear()
    } finally close()

  override def close(): Unit = connection.close()
}
