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
  def columns(block: RayBlockPartition, columns: Array[String]): HostAnswer = {
    val request = ask(block.lease, Seq(block.index), block.limit)
    val names = request.putArray("columns")
    columns.foreach(name => names.add(name))
    call(request)
  }

  /** How many rows some blocks have together. */
  def rows(blocks: UncountedPartition): Long = {
    val answer = call(ask(blocks.lease, blocks.indices, blocks.limit))
    try answer.told.get("rows").asLong
    finally answer.close()
  }

  private def ask(lease: String, indices: Seq[Int], limit: Option[Int]): ObjectNode = {
    val request = mapper.createObjectNode().put("token", environment("RAYDP_ML_HOST_TOKEN")).put("lease", lease)
    limit.foreach(rows => request.put("limit", rows))
    val blocks = request.putArray("blocks")
    indices.foreach(index => blocks.add(index))
    request
  }

  private def call(request: ObjectNode): HostAnswer = {
    val answer = new HostAnswer(SocketChannel.open(UnixDomainSocketAddress.of(environment("RAYDP_ML_HOST_SOCKET"))), request)
    try {
      if (answer.told.has("lost")) {
        // Not this task's failure: it gives its slot back, so that the block can be computed again, and is scheduled anew.
        throw new TaskKilledException(answer.told.get("lost").asText)
      }
      if (answer.told.has("error")) throw new IllegalStateException(answer.told.get("error").asText)
      answer
    } catch {
      case problem: Throwable =>
        answer.close()
        throw problem
    }
  }
}

/** What the host has told, and may hold for us until this is released or closed. */
private[raydpml] final class HostAnswer(connection: SocketChannel, request: ObjectNode) extends AutoCloseable {
  private val lines = new BufferedReader(new InputStreamReader(Channels.newInputStream(connection), UTF_8))

  val told: JsonNode =
    try new ObjectMapper().readTree(exchange(request.toString))
    catch {
      case problem: Throwable =>
        close()
        throw problem
    }

  private def exchange(line: String): String = {
    val bytes = ByteBuffer.wrap((line + "\n").getBytes(UTF_8))
    while (bytes.hasRemaining) connection.write(bytes)
    val answer = lines.readLine()
    if (answer == null) throw new IllegalStateException("the executor's host closed the connection")
    answer
  }

  /** Tells the host that it need not hold anything any longer. Fails when the host had ended before. */
  def release(): Unit =
    if (connection.isOpen) {
      try exchange("{}")
      finally close()
    }

  override def close(): Unit = connection.close()
}
