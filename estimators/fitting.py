"""The story of a fit, from top to bottom: look at the parameters, open the rows, look at them, train, and say what was learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raydp_ml import progress
from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators import launch
from raydp_ml.estimators.checkpoints import Checkpoints, CheckpointSettings
from raydp_ml.estimators.checks import check_survey, validation_mask
from raydp_ml.estimators.inputs import (
    ColumnSpec,
    Opened,
    Validate,
    check_same_features,
    open_training,
    open_validation,
)
from raydp_ml.estimators.learnt import Learnt
from raydp_ml.estimators.protocol import Backend
from raydp_ml.estimators.survey import Survey
from raydp_ml.estimators.tasks import MULTILABEL, classes_of_labels, predicts_probabilities

__all__ = ["FitSettings", "fit"]


@dataclass(frozen=True)
class FitSettings:
    """What a fit needs of an estimator and of the call, fixed before any row is read.

    ``make_backend`` is given the number of classes, None for none; ``previous`` is what to go on from.
    """

    owner: str
    task: str
    columns: ColumnSpec
    reads_nulls: bool
    prediction_modules: tuple[str, ...]
    make_backend: Callable[[int | None], Backend]
    validate: Validate
    placement: launch.Placement
    validation: Any = None
    class_weight: Any = None
    classes: Any = None
    seed: int | None = None
    verbose: bool = True
    epochs: int | None = None
    previous: Learnt | None = None
    checkpoints: CheckpointSettings | None = None
    streaming: bool | str = "auto"

    @property
    def drop_nulls(self) -> bool:
        """Whether rows with a null feature do not train."""
        nulls = self.columns.null_features
        return nulls == "skip" or (nulls == "null" and not self.reads_nulls)


def fit(
    settings: FitSettings, X: Any, y: Any, sample_weight: Any, *, vector_column: str | None
) -> tuple[Learnt, list[dict[str, float]]]:
    """Train.

    Parameters
    ----------
    settings : FitSettings
        What is known before.
    X, y, sample_weight
        As ``fit`` of an estimator takes them.
    vector_column : str or None
        The last vector column that a pipeline made.

    Returns
    -------
    learnt : Learnt
        The fitted model and what belongs to it.
    history : list of dict
        Metrics of each epoch.
    """
    backend = settings.make_backend(None)  # settings that contradict each other are said before any data is read
    with progress.call(settings.owner, settings.verbose):
        place = launch.choose_place(settings.placement, backend.modules)
        try:
            with progress.waiting_for("a training worker is asked for"):
                place.prepare()
            return _fit_in(place, settings, backend, X, y, sample_weight, vector_column)
        finally:
            place.close()


def _fit_in(
    place: launch.Place,
    settings: FitSettings,
    backend: Backend,
    X: Any,
    y: Any,
    sample_weight: Any,
    vector_column: str | None,
) -> tuple[Learnt, list[dict[str, float]]]:
    indicator = settings.validation if isinstance(settings.validation, str) else None
    with progress.waiting_for("the columns of the rows are looked at"):
        opened = open_training(
            settings.columns,
            settings.validate,
            X,
            y,
            sample_weight,
            settings.task,
            indicator,
            typed=backend.typed,
            reset=settings.previous is None,
            vector_column=vector_column,
            previous=settings.previous,
        )
    if settings.previous is not None:
        check_same_features(settings.previous, opened)
    refused = backend.not_streamed(settings.previous is not None)
    streamed = launch.is_streamed(settings.streaming, refused, opened.data, settings.placement)
    train = _look(settings, place, opened.data, "the training data", opened.label_name, streamed)
    held_out, chosen = _held_out(settings, place, opened, train, streamed)

    classes = _classes(settings, train.known)
    checkpoints = _checkpoints(settings, place, opened, train, held_out if chosen is None else None)
    assignment = launch.Assignment(
        backend=settings.make_backend(None if classes is None else len(classes)),
        task=settings.task,
        features=opened.features,
        label=settings.owner,
        outputs=opened.outputs,
        classes=classes,
        class_weight=_class_weights(settings.class_weight, classes, train.known),
        seed=settings.seed,
        previous=None if settings.previous is None else settings.previous.fitted,
        verbose=settings.verbose,
        epochs=settings.epochs,
        checkpoints=checkpoints,
        streamed=streamed,
    )
    if opened.frame is not None:
        opened.frame.warm_predictions(settings.prediction_modules)
    outcome = launch.run(place, assignment, train, held_out, chosen)
    if checkpoints is not None:
        checkpoints.end(outcome.history)
    learnt = Learnt(
        fitted=outcome.fitted,
        task=settings.task,
        features=opened.features,
        by_name=opened.roles is not None,
        classes=classes_of_labels(opened.outputs) if settings.task == MULTILABEL else classes,
        label_type=None if classes is None else pa.array(classes).type,
        outputs=outcome.fitted.outputs or opened.outputs,
        sparse=opened.sparse,
    )
    return learnt, outcome.history


def _look(settings: FitSettings, place: launch.Place, data: Any, what: str, label: str, streamed: bool) -> launch.Side:
    side = place.look(data, predicts_probabilities(settings.task), settings.drop_nulls, keep=not streamed)
    check_survey(side.known, settings.columns.null_features == "error", what, label)
    return side


def _held_out(
    settings: FitSettings, place: launch.Place, opened: Opened, train: launch.Side, streamed: bool
) -> tuple[launch.Side | None, np.ndarray | None]:
    """Where the rows to validate on are, and, where they are some of the training rows, which rows train."""
    validation = settings.validation
    if validation is None:
        return None, None
    if isinstance(validation, str):
        held_out = np.asarray(train.known.validation, bool)
        if held_out.all() or not held_out.any():
            found, left = ("true", "train") if held_out.all() else ("false", "validate")
            raise InvalidValueError(
                f"validation={validation!r}: the column is {found} in all {len(held_out)} rows, which leaves none to {left} on"
            )
        return train, ~held_out
    if isinstance(validation, float):
        return train, ~validation_mask(train.known, validation, settings.seed)
    data = open_validation(settings.columns, validation, opened, settings.task)
    return _look(settings, place, data, "validation", opened.label_name, streamed), None


def _checkpoints(
    settings: FitSettings, place: launch.Place, opened: Opened, train: launch.Side, validation: launch.Side | None
) -> Checkpoints | None:
    """Begin with the checkpoints of this fit, or find those that it is to go on from."""
    if settings.checkpoints is None:
        return None
    with progress.waiting_for("the rows are compared with those of the checkpoints"):
        rows = {
            "num_workers": str(max(place.workers, 1)),
            "features": ", ".join(f"{each.name} {each.dtype}({each.width})" for each in opened.features),
            "training rows": launch.hash_of_rows(train),
            "warm start": str(settings.previous is not None),
        }
        if validation is not None:
            rows["validation rows"] = launch.hash_of_rows(validation)
        return settings.checkpoints.begin(rows)


def _classes(settings: FitSettings, known: Survey) -> np.ndarray | None:
    if settings.task != "classification":
        return None
    if settings.previous is not None:
        return settings.previous.classes
    if known.classes is not None and known.classes.dtype.kind == "f" and np.any(known.classes % 1):
        raise InvalidValueError(
            f"the label has {len(known.classes)} different values that are not whole, {known.classes[:3].tolist()}, ...: it is "
            "continuous; train a regression, or cut it into classes"
        )
    found = known.classes if settings.classes is None else np.unique(np.asarray(settings.classes))
    if found is None or len(found) < 2:
        only = [] if found is None else found.tolist()
        raise InvalidValueError(f"the label has one class only, {only}; a classifier needs at least 2 classes")
    return found


def _class_weights(class_weight: Any, classes: np.ndarray | None, known: Survey) -> np.ndarray | None:
    if class_weight is None:
        return None
    if classes is None:
        raise InvalidValueError(
            "class_weight has a meaning only where a row has one class; use weight_column, or weights of the loss (pos_weight)"
        )
    if isinstance(class_weight, Mapping):
        unknown = [key for key in class_weight if key not in classes]
        if unknown:
            raise InvalidValueError(f"class_weight names {unknown}, which are not among the classes {classes.tolist()}")
        found = np.array([float(class_weight.get(item, 1.0)) for item in classes.tolist()])
        if not (np.isfinite(found).all() and (found >= 0).all() and found.any()):
            raise InvalidValueError(
                f"class_weight={dict(class_weight)} must be numbers of at least 0, and one of them more than 0"
            )
        return found
    if class_weight != "balanced":
        raise InvalidValueError(f"class_weight={class_weight!r} must be 'balanced', a dict by class, or None")
    counts = np.zeros(len(classes))
    if known.classes is not None and known.class_counts is not None:
        counts[np.searchsorted(classes, known.classes)] = known.class_counts
    return counts.sum() / (len(classes) * np.maximum(counts, 1))
