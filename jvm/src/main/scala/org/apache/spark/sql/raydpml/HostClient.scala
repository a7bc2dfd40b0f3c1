package org.apache.spark.sql.raydpml

import java.io.{BufferedReader, InputStreamReader}
import java.net.UnixDomainSocketAddress
import java.nio.ByteBuffer
import java.nio.channels.{Channels, SocketChannel}
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.{Path, Paths}

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

  /** Asks for some columns of a block: the answer is the file that holds them. */
  def file(block: RayBlockPartition, columns: Array[String]): Path = {
    val request = ask(block.lease, Seq(block.index), block.limit)
    val names = request.putArray("columns")
    columns.foreach(name => names.add(name))
    Paths.get(call(request).get("path").asText)
  }

  /** How many rows some blocks have together. */
  def rows(blocks: UncountedPartition): Long = call(ask(blocks.lease, blocks.indices, blocks.limit)).get("rows").asLong

  private def ask(lease: String, indices: Seq[Int], limit: Int): ObjectNode = {
    val request = mapper.createObjectNode().put("token", environment("RAYDP_ML_HOST_TOKEN"))
    request.put("lease", lease).put("limit", limit)
    val blocks = request.putArray("blocks")
    indices.foreach(index => blocks.add(index))
    request
  }

  private def call(request: ObjectNode): JsonNode = {
    val answer = exchange(request)
    if (answer.has("lost")) {
      // Not this task's failure: it gives its slot back, so that the block can be computed again, and is scheduled anew.
      throw new TaskKilledException(answer.get("lost").asText)
    }
    if (answer.has("error")) throw new IllegalStateException(answer.get("error").asText)
    answer
  }

  private def exchange(request: ObjectNode): JsonNode = {
    val channel = SocketChannel.open(UnixDomainSocketAddress.of(environment("RAYDP_ML_HOST_SOCKET")))
    try {
      val line = ByteBuffer.wrap((mapper.writeValueAsString(request) + "\n").getBytes(UTF_8))
      while (line.hasRemaining) channel.write(line)
      val reader = new BufferedReader(new InputStreamReader(Channels.newInputStream(channel), UTF_8))
      val answer = reader.readLine()
      if (answer == null) throw new IllegalStateException("the executor's host closed the connection")
      mapper.readTree(answer)
    } finally channel.close()
  }
}
