import org.apache.spark.sql.SparkSession

object Counting {
  def twice(number: Int): Int = 2 * number

  def main(arguments: Array[String]): Unit = {
    val spark = SparkSession.builder.getOrCreate()
    val context = spark.sparkContext
    val sum = spark.range(arguments(0).toLong).selectExpr("sum(id)").head().getLong(0)
    val executors = context.getExecutorMemoryStatus.size - 1
    println(s"""RESULT {"sum": $sum, "executors": $executors, "name": "${context.appName}", "id": "${context.applicationId}"}""")
    if (arguments(1) == "wait") Thread.sleep(600000) else System.exit(arguments(1).toInt)
  }
}
