"""How parameters reach xgboost: one table, refusals and their reasons included."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = ["ALIASES", "PARAMETERS", "canonical", "check_names", "is_parameter", "task_of"]

# Passed on to xgboost under their own names.
_PASSED_NAMES = """
    booster device verbosity validate_parameters nthread disable_default_eval_metric
    eta learning_rate gamma min_split_loss max_depth min_child_weight max_delta_step subsample sampling_method
    colsample_bytree colsample_bylevel colsample_bynode lambda reg_lambda alpha reg_alpha tree_method scale_pos_weight
    updater refresh_leaf process_type grow_policy max_leaves max_bin num_parallel_tree monotone_constraints
    interaction_constraints multi_strategy max_cached_hist_node max_cat_to_onehot max_cat_threshold
    sample_type normalize_type rate_drop one_drop skip_drop feature_selector top_k
    base_score seed seed_per_iteration tweedie_variance_power huber_slope quantile_alpha expectile_alpha
    lambdarank_pair_method lambdarank_num_pair_per_sample lambdarank_normalization lambdarank_score_normalization
    lambdarank_unbiased lambdarank_bias_norm lambdarank_diff_normalization ndcg_exp_gain
"""
PARAMETERS = tuple(_PASSED_NAMES.split())
_PASSED = frozenset(PARAMETERS)

# Two spellings of one parameter: the second is another name of the first.
ALIASES = {
    "learning_rate": "eta",
    "min_split_loss": "gamma",
    "lambda": "reg_lambda",
    "alpha": "reg_alpha",
}

# Not passed on, and what to use instead.
_REFUSED = {
    "n_estimators": "use num_boost_round",
    "num_round": "use num_boost_round",
    "n_jobs": "use nthread, or resources_per_worker when training on workers",
    "missing": 'replace that value by null before, and set null_features="null"',
    "num_class": "it is the number of different labels",
    "importance_type": "ask the fitted model: est.model_.get_score(importance_type=...)",
    "enable_categorical": "index categorical columns first; they are then treated as numbers",
    "feature_types": "all features are numbers here; index categorical columns first",
    "feature_weights": "not supported yet",
    "extmem_single_page": "external memory is not supported yet",
    "aft_loss_distribution": "survival:aft needs label bounds, which are not supported",
    "aft_loss_distribution_scale": "survival:aft needs label bounds, which are not supported",
    "silent": "use verbosity",
    "use_rmm": "a global setting: call xgboost.set_config",
    "dsplit": "rows are divided among workers; nothing else is supported",
    "data_split_mode": "rows are divided among workers; nothing else is supported",
}

# Parameters of the estimator that may stand in ``params`` too.
_OWN = frozenset({"objective", "eval_metric"})

_TASK_OF_PREFIX = {
    "binary": "classification",
    "multi": "classification",
    "reg": "regression",
    "count": "regression",
    "survival": "regression",
    "rank": "ranking",
}


def is_parameter(name: str) -> bool:
    """Whether xgboost is given this parameter under its own name.

    Examples
    --------
    >>> is_parameter("max_depth"), is_parameter("n_estimators")
    (True, False)
    """
    return name in _PASSED


def check_names(names: Iterable[str], error: type[Exception], where: str) -> None:
    """Raise for parameters that are refused or unknown, with what to use instead."""
    for name in names:
        if name in _PASSED or (where == "params" and name in _OWN):
            continue
        if name in _REFUSED:
            raise InvalidValueError(f"{where}: {name!r} cannot be given; {_REFUSED[name]}")
        alike = difflib.get_close_matches(name, _PASSED, n=1)
        hint = f"; did you mean {alike[0]!r}?" if alike else ""
        raise error(f"{where}: got an unexpected parameter {name!r}, which xgboost does not have{hint}")


def canonical(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Parameters under one spelling each.

    Parameters
    ----------
    given : mapping
        Names, of which some may be aliases, and values.
    where : str
        Where they were given, for messages.

    Raises
    ------
    InvalidValueError
        When two spellings of one parameter have different values.

    Examples
    --------
    >>> canonical({"learning_rate": 0.1, "max_depth": 3}, "params")
    {'eta': 0.1, 'max_depth': 3}
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        own = ALIASES.get(name, name)
        if value is None and found.get(own) is not None:
            continue
        if found.get(own) is not None and found[own] != value:
            raise InvalidValueError(
                f"{where}: {own}={found[own]!r} and {value!r} were given for one parameter of xgboost, under two of its names "
                f"({', '.join(sorted([own, *(alias for alias, one in ALIASES.items() if one == own)]))})"
            )
        found[own] = value
    return found


def task_of(objective: Any) -> str | None:
    """The task that an objective implies.

    Examples
    --------
    >>> task_of("binary:logistic"), task_of(None)
    ('classification', None)
    """
    if objective is None or callable(objective):
        return None
    if not isinstance(objective, str):
        raise InvalidTypeError(f"objective={objective!r} must be a name such as 'binary:logistic', a function or None")
    task = _TASK_OF_PREFIX.get(objective.partition(":")[0])
    if task is None or objective == "survival:aft":
        reason = "needs label bounds, which are not supported" if task else "is not an objective of xgboost"
        raise InvalidValueError(
            f"objective={objective!r} {reason}; use binary:, multi:, reg:, count: or rank: objectives"
        )
    return task
