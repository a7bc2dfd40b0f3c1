"""Which way is better: the direction of metrics that have a name."""

from __future__ import annotations

import re

__all__ = ["greater_is_better"]

# Names of scikit-learn's metrics and scorers, of xgboost's eval_metric, of Keras and of ours. xgboost adds "@n" and "-" to some.
_GREATER_NAMES = """
    accuracy acc balanced_accuracy top_k_accuracy binary_accuracy categorical_accuracy sparse_categorical_accuracy
    auc roc_auc roc_auc_ovr roc_auc_ovo roc_auc_ovr_weighted roc_auc_ovo_weighted aucpr average_precision
    f1 f1_score f1_micro f1_macro f1_weighted fbeta precision recall specificity sensitivity jaccard matthews_corrcoef cohen_kappa
    r2 explained_variance d2_absolute_error_score d2_log_loss_score d2_brier_score d2_tweedie_score ndcg map pre mrr
    interval-regression-accuracy
"""
_LESS_NAMES = """
    loss log_loss logloss mlogloss error merror hinge hinge_loss brier_score brier_score_loss zero_one_loss hamming_loss
    mse rmse rmsle mae mape mphe mean_squared_error root_mean_squared_error mean_squared_log_error root_mean_squared_log_error
    mean_absolute_error median_absolute_error mean_absolute_percentage_error max_error mean_pinball_loss quantile expectile
    mean_poisson_deviance mean_gamma_deviance mean_tweedie_deviance poisson-nloglik gamma-nloglik gamma-deviance
    tweedie-nloglik cox-nloglik aft-nloglik
"""
_GREATER = frozenset(_GREATER_NAMES.split())
_LESS = frozenset(_LESS_NAMES.split())


def greater_is_better(name: str) -> bool | None:
    """Whether a larger value of a metric is better; None when its name does not tell.

    Parameters
    ----------
    name : str
        ``"valid_roc_auc"``, ``"ndcg@5"``, ``"neg_log_loss"``, ...; a side in front and a number behind do not matter.

    Examples
    --------
    >>> greater_is_better("valid_roc_auc"), greater_is_better("rmse"), greater_is_better("share_of_yes")
    (True, False, None)
    """
    plain = re.sub(r"^(train|valid|val|test)_", "", name)
    plain = re.sub(r"(@.*|-)$", "", plain)
    if plain.startswith("neg_"):
        return True
    for name in (plain, plain.removesuffix("_score")):  # scikit-learn calls functions roc_auc_score, scorers roc_auc
        if name in _GREATER or name in _LESS:
            return name in _GREATER
    return None
