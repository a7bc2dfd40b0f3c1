"""From fitted stages of Spark ML to local ones: the values are read once, while the session runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.feature.attributes import element_categories, element_names, labels_of
from raydp_ml.serving import categories, hashing, numbers, predictors, scaling, text, vectors
from raydp_ml.serving.rformula_seam import formula_parts
from raydp_ml.serving.stage import Chain, LocalStage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["REFUSED", "SUPPORTED", "local_stage"]

# Stages that stay in Spark, and why.
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "SQLTransformer": "its statement is Spark's SQL, and another engine's dialect would differ without a word",
        "BucketedRandomProjectionLSHModel": "it makes keys to join frames by, not features",
        "MinHashLSHModel": "it makes keys to join frames by, not features",
        "TargetEncoderModel": "PySpark does not give out what it has learnt",
    }
)

# Regular expressions that mean the same in Java and in Python (with re.ASCII): no dot and no anchors, since the two know other
# ends of lines; no groups that capture, since they change what Python's split returns; no possessive quantifiers.
_ESCAPE = r"\\[sSdDwW]|\\[\\.\-+*?|(){}\[\]^$/]"
_CLASS = rf"\[\^?(?:{_ESCAPE}|[^\\\[\]&^])+\]"
_ATOM = rf"(?:{_ESCAPE}|{_CLASS}|[^\\\[\](){{}}.^$|*+?])(?:(?:[*+?]|\{{\d+(?:,\d*)?\}})\??(?![*+?]))?"
_SAME_PATTERN = re.compile(rf"(?:{_ATOM}|\||\(\?:|\)(?:[*+?]\??(?![*+?]))?)+")
# Languages in which lower case is not what Python makes of it.
_OTHER_CASES = ("tr", "az", "lt")


def local_stage(stage: Any, frame: DataFrame) -> LocalStage:
    """What a fitted stage does, without Spark.

    Parameters
    ----------
    stage : pyspark.ml.Transformer
        A fitted model, a Transformer or a PipelineModel.
    frame : pyspark.sql.DataFrame
        A frame as it comes to the stage. Only its schema is read: some stages go by the names and categories in it.

    Returns
    -------
    LocalStage
        A small value that knows nothing of Spark.

    Raises
    ------
    InvalidTypeError
        For a stage that only Spark can do; the message says why.

    Examples
    --------
    >>> local_stage(StandardScaler(inputCol="a", outputCol="b").fit(df), df).transform(...)  # doctest: +SKIP
    """
    name = type(stage).__name__
    extract = SUPPORTED.get(name) if type(stage).__module__.startswith("pyspark.ml.") else None
    if extract is not None:
        return extract(stage, frame)
    if type(stage).__module__.startswith("pyspark.ml.") and name in REFUSED:
        raise InvalidTypeError(f"{name} works in Spark only: {REFUSED[name]}")
    raise InvalidTypeError(
        f"{name} works in Spark only: there is no local form of it; there is one of {', '.join(SUPPORTED)}"
    )


def _value(stage: Any, param: str) -> Any:
    return stage.getOrDefault(param)


def _pairs(stage: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of a stage that takes one or several."""
    if stage.isSet("inputCols"):
        return tuple(_value(stage, "inputCols")), tuple(_value(stage, "outputCols"))
    return (_value(stage, "inputCol"),), (_value(stage, "outputCol"),)


def _one(stage: Any) -> tuple[str, str]:
    return _value(stage, "inputCol"), _value(stage, "outputCol")


def _inverse(scale: np.ndarray) -> np.ndarray:
    """One over each number; 0 for 0, as Spark's scalers have it for elements that never vary."""
    return np.divide(1.0, scale, out=np.zeros(len(scale)), where=scale != 0)


def _string_indexer(stage: Any, frame: DataFrame) -> LocalStage:
    labels = tuple(tuple(column) for column in stage.labelsArray)
    return categories.IndexStrings(*_pairs(stage), labels, _value(stage, "handleInvalid"))


def _index_to_string(stage: Any, frame: DataFrame) -> LocalStage:
    column, output = _one(stage)
    given = _value(stage, "labels") if stage.isDefined("labels") else ()
    return categories.LabelIndices(column, output, tuple(given) or labels_of(frame.schema[column]))


def _one_hot_encoder(stage: Any, frame: DataFrame) -> LocalStage:
    sizes = tuple(int(size) for size in stage.categorySizes)
    return categories.OneHot(*_pairs(stage), sizes, _value(stage, "dropLast"), _value(stage, "handleInvalid"))


def _vector_indexer(stage: Any, frame: DataFrame) -> LocalStage:
    maps = {int(element): dict(seen) for element, seen in dict(stage.categoryMaps).items()}
    elements = tuple(sorted(maps))
    seen = tuple(np.array(sorted(maps[element]), dtype=float) for element in elements)
    number = tuple(
        np.array([maps[element][value] for value in sorted(maps[element])], dtype=float) for element in elements
    )
    return categories.IndexVectors(
        *_one(stage), stage.numFeatures, elements, seen, number, _value(stage, "handleInvalid")
    )


def _imputer(stage: Any, frame: DataFrame) -> LocalStage:
    columns, outputs = _pairs(stage)
    row = stage.surrogateDF.first()
    surrogates = tuple(float(row[name]) for name in columns)
    return numbers.Impute(columns, outputs, surrogates, _value(stage, "missingValue"))


def _bucketizer(stage: Any, frame: DataFrame) -> LocalStage:
    splits = _value(stage, "splitsArray") if stage.isSet("inputCols") else [_value(stage, "splits")]
    return numbers.Bucketize(*_pairs(stage), tuple(map(np.array, splits)), _value(stage, "handleInvalid"))


def _binarizer(stage: Any, frame: DataFrame) -> LocalStage:
    import pyspark

    columns, outputs = _pairs(stage)
    thresholds = (
        _value(stage, "thresholds") if stage.isSet("thresholds") else [_value(stage, "threshold")] * len(columns)
    )
    return numbers.Binarize(columns, outputs, tuple(thresholds), not pyspark.__version__.startswith("3."))


def _standard_scaler(stage: Any, frame: DataFrame) -> LocalStage:
    factor = _inverse(stage.std.toArray()) if _value(stage, "withStd") else None
    return scaling.Scale(*_one(stage), factor, stage.mean.toArray() if _value(stage, "withMean") else None)


def _robust_scaler(stage: Any, frame: DataFrame) -> LocalStage:
    factor = _inverse(stage.range.toArray()) if _value(stage, "withScaling") else None
    return scaling.Scale(*_one(stage), factor, stage.median.toArray() if _value(stage, "withCentering") else None)


def _min_max_scaler(stage: Any, frame: DataFrame) -> LocalStage:
    low, high = _value(stage, "min"), _value(stage, "max")
    least, span = stage.originalMin.toArray(), stage.originalMax.toArray() - stage.originalMin.toArray()
    # An element that never varied becomes the middle of the new range.
    offset = np.where(span == 0, (low + high) / 2, low)
    return scaling.Scale(*_one(stage), _inverse(span) * (high - low), least, offset)


def _max_abs_scaler(stage: Any, frame: DataFrame) -> LocalStage:
    largest = stage.maxAbs.toArray()
    return scaling.Scale(*_one(stage), 1 / np.where(largest == 0, 1.0, largest))


def _idf(stage: Any, frame: DataFrame) -> LocalStage:
    return scaling.Scale(*_one(stage), stage.idf.toArray())


def _elementwise_product(stage: Any, frame: DataFrame) -> LocalStage:
    return scaling.Scale(*_one(stage), _value(stage, "scalingVec").toArray())


def _normalizer(stage: Any, frame: DataFrame) -> LocalStage:
    return scaling.Normalize(*_one(stage), _value(stage, "p"))


def _vector_assembler(stage: Any, frame: DataFrame) -> LocalStage:
    return vectors.Assemble(
        tuple(_value(stage, "inputCols")), _value(stage, "outputCol"), _value(stage, "handleInvalid")
    )


def _vector_slicer(stage: Any, frame: DataFrame) -> LocalStage:
    column, output = _one(stage)
    elements = list(_value(stage, "indices"))
    names = _value(stage, "names")
    if names:
        known = element_names(frame.schema[column])
        elements += [known[name] for name in names]
    return vectors.Slice(column, output, np.array(elements, dtype=np.int64))


def _selector(stage: Any, frame: DataFrame) -> LocalStage:
    elements = np.array(sorted(stage.selectedFeatures), dtype=np.int64)
    return vectors.Slice(_value(stage, "featuresCol"), _value(stage, "outputCol"), elements)


def _pca(stage: Any, frame: DataFrame) -> LocalStage:
    return vectors.MultiplyMatrix(*_one(stage), stage.pc.toArray())


def _dct(stage: Any, frame: DataFrame) -> LocalStage:
    return vectors.CosineTransform(*_one(stage), _value(stage, "inverse"))


def _polynomial_expansion(stage: Any, frame: DataFrame) -> LocalStage:
    return vectors.Expand(*_one(stage), _value(stage, "degree"))


def _interaction(stage: Any, frame: DataFrame) -> LocalStage:
    columns = tuple(_value(stage, "inputCols"))
    counts = tuple(element_categories(frame.schema[name]) for name in columns)
    return vectors.Interact(columns, _value(stage, "outputCol"), counts)


def _vector_size_hint(stage: Any, frame: DataFrame) -> LocalStage:
    return vectors.CheckSize(_value(stage, "inputCol"), _value(stage, "size"), _value(stage, "handleInvalid"))


def _tokenizer(stage: Any, frame: DataFrame) -> LocalStage:
    return text.SplitText(*_one(stage))


def _regex_tokenizer(stage: Any, frame: DataFrame) -> LocalStage:
    pattern, shortest = _value(stage, "pattern"), _value(stage, "minTokenLength")
    if not _SAME_PATTERN.fullmatch(pattern) or (shortest < 1 and re.fullmatch(pattern, "", re.ASCII)):
        raise InvalidTypeError(
            f"RegexTokenizer works in Spark only with the pattern {pattern!r}: Java and Python may not mean the same by it. "
            r"Literals, \s \d \w, classes in [ ], (?: ), | and the quantifiers * + ? {n} are the same in both"
        )
    return text.SplitTextByPattern(*_one(stage), pattern, _value(stage, "gaps"), shortest, _value(stage, "toLowercase"))


def _stop_words_remover(stage: Any, frame: DataFrame) -> LocalStage:
    locale = _value(stage, "locale")
    if not _value(stage, "caseSensitive") and locale[:2].lower() in _OTHER_CASES:
        raise InvalidTypeError(
            f"StopWordsRemover works in Spark only with locale {locale!r}, whose lower case is its own"
        )
    return text.RemoveWords(*_pairs(stage), tuple(_value(stage, "stopWords")), _value(stage, "caseSensitive"))


def _n_gram(stage: Any, frame: DataFrame) -> LocalStage:
    return text.JoinWords(*_one(stage), _value(stage, "n"))


def _hashing_tf(stage: Any, frame: DataFrame) -> LocalStage:
    size = _value(stage, "numFeatures")
    if stage.indexOf("words") != hashing.murmur3("words") % size:
        raise InvalidValueError(
            "this HashingTF was saved by Spark 2, whose hashes are others, and works in Spark only; make a new one and fit again"
        )
    return hashing.HashWords(*_one(stage), size, _value(stage, "binary"))


def _feature_hasher(stage: Any, frame: DataFrame) -> LocalStage:
    named = tuple(_value(stage, "categoricalCols")) if stage.isDefined("categoricalCols") else ()
    columns = tuple(_value(stage, "inputCols"))
    return hashing.HashColumns(columns, _value(stage, "outputCol"), _value(stage, "numFeatures"), named)


def _count_vectorizer(stage: Any, frame: DataFrame) -> LocalStage:
    return text.CountWords(*_one(stage), tuple(stage.vocabulary), _value(stage, "minTF"), _value(stage, "binary"))


def _word2vec(stage: Any, frame: DataFrame) -> LocalStage:
    rows = stage.getVectors().collect()
    matrix = np.array([row.vector.toArray() for row in rows])
    return text.AverageWords(*_one(stage), tuple(row.word for row in rows), matrix)


def _r_formula(stage: Any, frame: DataFrame) -> LocalStage:
    stages, dropped = formula_parts(stage)
    return Chain(_in_turn(stages, frame), dropped)


def _linear_regression(stage: Any, frame: DataFrame) -> LocalStage:
    columns = _value(stage, "featuresCol"), _value(stage, "predictionCol")
    return predictors.PredictLinear(*columns, stage.coefficients.toArray(), stage.intercept)


def _logistic_regression(stage: Any, frame: DataFrame) -> LocalStage:
    coefficients, intercepts = stage.coefficientMatrix.toArray(), stage.interceptVector.toArray()
    several = len(coefficients) > 1
    least = 0.0 if several else _score(stage.getThreshold())
    thresholds = np.array(_value(stage, "thresholds")) if several and stage.isDefined("thresholds") else None
    return predictors.ClassifyLinear(
        _value(stage, "featuresCol"),
        _value(stage, "rawPredictionCol"),
        _value(stage, "probabilityCol"),
        _value(stage, "predictionCol"),
        coefficients,
        intercepts,
        True,
        least,
        thresholds,
    )


def _score(probability: float) -> float:
    """The score at which the logistic function has this value."""
    with np.errstate(divide="ignore"):
        return float(np.log(np.float64(probability)) - np.log1p(-np.float64(probability)))


def _linear_svc(stage: Any, frame: DataFrame) -> LocalStage:
    return predictors.ClassifyLinear(
        _value(stage, "featuresCol"),
        _value(stage, "rawPredictionCol"),
        "",
        _value(stage, "predictionCol"),
        stage.coefficients.toArray()[None, :],
        np.array([stage.intercept]),
        False,
        _value(stage, "threshold"),
    )


def _k_means(stage: Any, frame: DataFrame) -> LocalStage:
    columns = _value(stage, "featuresCol"), _value(stage, "predictionCol")
    return predictors.FindNearest(
        *columns, np.array(stage.clusterCenters()), _value(stage, "distanceMeasure") == "cosine"
    )


def _pipeline(stage: Any, frame: DataFrame) -> LocalStage:
    return Chain(_in_turn(stage.stages, frame))


def _in_turn(stages: list[Any], frame: DataFrame) -> tuple[LocalStage, ...]:
    found = []
    for stage in stages:
        found.append(local_stage(stage, frame))
        frame = stage.transform(frame)
    return tuple(found)


# Which stages have a local form.
SUPPORTED: Mapping[str, Callable[[Any, DataFrame], LocalStage]] = MappingProxyType(
    {
        "Binarizer": _binarizer,
        "Bucketizer": _bucketizer,
        "ChiSqSelectorModel": _selector,
        "CountVectorizerModel": _count_vectorizer,
        "DCT": _dct,
        "ElementwiseProduct": _elementwise_product,
        "FeatureHasher": _feature_hasher,
        "HashingTF": _hashing_tf,
        "IDFModel": _idf,
        "ImputerModel": _imputer,
        "IndexToString": _index_to_string,
        "Interaction": _interaction,
        "KMeansModel": _k_means,
        "LinearRegressionModel": _linear_regression,
        "LinearSVCModel": _linear_svc,
        "LogisticRegressionModel": _logistic_regression,
        "MaxAbsScalerModel": _max_abs_scaler,
        "MinMaxScalerModel": _min_max_scaler,
        "NGram": _n_gram,
        "Normalizer": _normalizer,
        "OneHotEncoderModel": _one_hot_encoder,
        "PCAModel": _pca,
        "PipelineModel": _pipeline,
        "PolynomialExpansion": _polynomial_expansion,
        "RFormulaModel": _r_formula,
        "RegexTokenizer": _regex_tokenizer,
        "RobustScalerModel": _robust_scaler,
        "StandardScalerModel": _standard_scaler,
        "StopWordsRemover": _stop_words_remover,
        "StringIndexerModel": _string_indexer,
        "Tokenizer": _tokenizer,
        "UnivariateFeatureSelectorModel": _selector,
        "VarianceThresholdSelectorModel": _selector,
        "VectorAssembler": _vector_assembler,
        "VectorIndexerModel": _vector_indexer,
        "VectorSizeHint": _vector_size_hint,
        "VectorSlicer": _vector_slicer,
        "Word2VecModel": _word2vec,
    }
)
