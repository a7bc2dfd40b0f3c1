class TimesTwo extends org.apache.spark.sql.api.java.UDF1[java.lang.Long, java.lang.Long] {
  override def call(number: java.lang.Long): java.lang.Long = 2 * number
}
