"""Predictors of pyspark.ml that are a few numbers once they are fitted: linear ones, and nearest centres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidValueError
from raydp_ml.serving.columns import Column, DenseVectors, LocalFrame
from raydp_ml.serving.stage import ColumnStage, LocalStage, fail_where

__all__ = ["ClassifyLinear", "FindNearest", "PredictLinear"]


def _product(frame: LocalFrame, name: str, matrix: np.ndarray) -> np.ndarray:
    """The vectors of a column times a matrix with a row for each element."""
    vectors = frame.vectors(name)
    fail_where(None if vectors.present is None else ~vectors.present, f"column {name!r} is null")
    if vectors.rows and vectors.size != len(matrix):
        raise InvalidValueError(
            f"column {name!r} has vectors of length {vectors.size}, the stage was fitted on {len(matrix)}"
        )
    return vectors.times(matrix).matrix


@dataclass(frozen=True)
class PredictLinear(ColumnStage):
    """A number: the product of a vector with coefficients, and an intercept."""

    coefficients: np.ndarray
    intercept: float

    def transform(self, frame: LocalFrame) -> LocalFrame:
        predicted = _product(frame, self.input_column, self.coefficients[:, None])[:, 0] + self.intercept
        return frame.with_columns({self.output_column: pa.array(predicted)})


@dataclass(frozen=True)
class ClassifyLinear(LocalStage):
    """A class by linear scores: logistic regression, and the linear support vector classifier.

    Attributes
    ----------
    input_column : str
        A column of vectors.
    raw_column, probability_column, prediction_column : str
        The columns to make; an empty name leaves one out.
    coefficients : numpy.ndarray
        A row for each class, or one row for the second of two classes.
    intercepts : numpy.ndarray
        One for each row.
    has_probability : bool
        Scores become probabilities, by the logistic function or softmax.
    least_score : float
        With one row, scores above it are the second class.
    thresholds : numpy.ndarray or None
        With several rows, what each class's probability is divided by before the largest is chosen.
    """

    input_column: str
    raw_column: str
    probability_column: str
    prediction_column: str
    coefficients: np.ndarray
    intercepts: np.ndarray
    has_probability: bool
    least_score: float
    thresholds: np.ndarray | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input_column,)

    @property
    def outputs(self) -> tuple[str, ...]:
        columns = (self.raw_column, self.probability_column if self.has_probability else "", self.prediction_column)
        return tuple(name for name in columns if name)

    def transform(self, frame: LocalFrame) -> LocalFrame:
        scores = _product(frame, self.input_column, self.coefficients.T) + self.intercepts
        if len(self.coefficients) == 1:
            raw = np.hstack([-scores, scores])
            # An exponent that overflows is a probability of zero.
            with np.errstate(over="ignore"):
                probability = 1 / (1 + np.exp(-raw))
            predicted = (scores[:, 0] > self.least_score).astype(float)
        else:
            raw = scores
            powers = np.exp(raw - raw.max(axis=1, keepdims=True))
            probability = powers / powers.sum(axis=1, keepdims=True)
            predicted = self._largest(raw, probability).astype(float)
        made: dict[str, Column] = {
            self.raw_column: DenseVectors(raw),
            self.prediction_column: pa.array(predicted),
        }
        if self.has_probability:
            made[self.probability_column] = DenseVectors(probability)
        return frame.with_columns({name: column for name, column in made.items() if name})

    def _largest(self, raw: np.ndarray, probability: np.ndarray) -> np.ndarray:
        if self.thresholds is None:
            return raw.argmax(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            weighted = probability / self.thresholds
        return np.where(np.isnan(weighted), -np.inf, weighted).argmax(axis=1)


@dataclass(frozen=True)
class FindNearest(ColumnStage):
    """The number of the centre that is nearest to a vector: k-means.

    Attributes
    ----------
    input_column, output_column : str
        A column of vectors, and one of whole numbers.
    centers : numpy.ndarray
        A row for each centre.
    cosine : bool
        Distances are those of directions.
    """

    centers: np.ndarray
    cosine: bool

    def transform(self, frame: LocalFrame) -> LocalFrame:
        products = _product(frame, self.input_column, self.centers.T)
        sizes = (self.centers**2).sum(axis=1)
        # The vector's own length is the same for all centres, so that it decides nothing.
        distances = -products / np.sqrt(sizes) if self.cosine else sizes - 2 * products
        nearest = distances.argmin(axis=1) if frame.rows else np.zeros(0)
        return frame.with_columns({self.output_column: pa.array(nearest.astype(np.int32))})
