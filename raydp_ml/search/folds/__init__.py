"""Where the rows of each fold come from.

:mod:`~raydp_ml.search.folds.splits` says which rows are in which fold, whatever the rows are. The other files have a kind of
input each and make the folds of it: :mod:`~raydp_ml.search.folds.local` of arrays and frames in this process,
:mod:`~raydp_ml.search.folds.frame` of a Spark frame or Ray Dataset that no step changes, and
:mod:`~raydp_ml.search.folds.pipeline` of a Spark frame behind the steps of a pipeline. What trials see of them is a
:class:`Fold`, which they get from an object with a method ``fold(prefix, number)``.
"""

from raydp_ml.search.folds.fold import Fold, Folds

__all__ = ["Fold", "Folds"]
