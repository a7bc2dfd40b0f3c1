"""All classes of local stages, known by their names once this is imported."""

from raydp_ml.serving import categories, functions, hashing, numbers, predictors, scaling, text, vectors

__all__ = ["categories", "functions", "hashing", "numbers", "predictors", "scaling", "text", "vectors"]
