"""scikit-learn-style estimators that train with Ray Train on Spark, Ray and in-memory data."""
