"""How parameters reach xgboost: one table, refusals and their reasons included."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = [
    "ALIASES",
    "PARAMETERS",
    "TABLE",
    "Ours",
    "Passed",
    "Refused",
    "canonical",
    "check_names",
    "is_parameter",
    "task_of",
]


@dataclass(frozen=True)
class Passed:
    """Passed on to xgboost under its own name."""


@dataclass(frozen=True)
class Ours:
    """A parameter of the estimator, under the name ``name``."""

    name: str


@dataclass(frozen=True)
class Refused:
    """Not taken, and ``why``, or what to do instead."""

    why: str


_PASSED_NAMES = """
    booster device verbosity validate_parameters nthread disable_default_eval_metric
    eta learning_rate gamma min_split_loss max_depth min_child_weight max_delta_step subsample sampling_method
    colsample_bytree colsample_bylevel colsample_bynode lambda reg_lambda alpha reg_alpha tree_method scale_pos_weight
    updater refresh_leaf process_type grow_policy max_leaves max_bin num_parallel_tree monotone_constraints
    interaction_constraints multi_strategy max_cached_hist_node max_cat_to_onehot max_cat_threshold
    sample_type normalize_type rate_drop one_drop skip_drop feature_selector top_k tolerance
    base_score seed seed_per_iteration tweedie_variance_power huber_slope quantile_alpha expectile_alpha
    aft_loss_distribution aft_loss_distribution_scale
    lambdarank_pair_method lambdarank_num_pair_per_sample lambdarank_normalization lambdarank_score_normalization
    lambdarank_unbiased lambdarank_bias_norm lambdarank_diff_normalization ndcg_exp_gain
"""
PARAMETERS = tuple(_PASSED_NAMES.split())
_BY_NAME = "columns have their names here, and their order follows from them"
_ROWS = "rows are divided among workers; nothing else is supported"
_LEARNT = "the model finds it in the data"
_ON_GPU = "it concerns matrices that GPUs make of chunks; a chunk has one size here"
_INTERNAL = "xgboost keeps it for itself"

# Every name that xgboost has for something that a user may want to say, and what becomes of it here.
TABLE: dict[str, Passed | Ours | Refused] = {
    **dict.fromkeys(PARAMETERS, Passed()),
    # xgboost.train, and the estimators of xgboost.sklearn
    "objective": Ours("objective"),
    "eval_metric": Ours("eval_metric"),
    "early_stopping_rounds": Ours("early_stopping_rounds"),
    "maximize": Ours("maximize"),
    "callbacks": Ours("callbacks"),
    "random_state": Ours("random_state"),
    "num_boost_round": Ours("num_boost_round"),
    "n_estimators": Ours("num_boost_round"),
    "num_round": Ours("num_boost_round"),
    "xgb_model": Ours("xgb_model"),
    "obj": Ours("objective"),
    "custom_metric": Ours("eval_metric"),
    "feval": Ours("eval_metric"),
    "evals": Ours("validation"),
    "eval_set": Ours("validation"),
    "verbose_eval": Ours("verbose"),
    "evals_result": Refused("it is the attribute history_"),
    "n_jobs": Refused("use nthread, or resources_per_worker when training on workers"),
    "importance_type": Refused("ask the fitted model: est.get_booster().get_score(importance_type=...)"),
    "num_class": Refused("it is the number of different labels"),
    # DMatrix
    "label": Ours("label_column"),
    "weight": Ours("weight_column"),
    "qid": Ours("qid_column"),
    "base_margin": Ours("base_margin_column"),
    "label_lower_bound": Ours("label_column"),
    "label_upper_bound": Ours("label_column"),
    "feature_weights": Ours("feature_weights"),
    "group": Refused("name qid_column, whose equal values make a group"),
    "missing": Refused('replace that value by null before, and set null_features="null"'),
    "feature_names": Refused(_BY_NAME),
    "feature_types": Refused("enable_categorical=True takes what the columns themselves say of categories"),
    "enable_categorical": Ours("enable_categorical"),
    "extmem_single_page": Refused(_ON_GPU),
    "max_quantile_batches": Refused(_ON_GPU),
    "data_split_mode": Refused(_ROWS),
    "dsplit": Refused(_ROWS),
    # global, old, and of the saved configuration
    "silent": Refused("use verbosity"),
    "use_rmm": Refused("a global setting: call xgboost.set_config"),
    "fail_on_invalid_gpu_id": Refused("use_gpu=True fails where there is no GPU"),
    "boost_from_average": Refused("give base_score"),
    **dict.fromkeys(("num_feature", "num_target", "num_trees"), Refused(_LEARNT)),
    **dict.fromkeys(("sparse_threshold", "updater_seq", "specified_updater", "max_row_perbatch"), Refused(_INTERNAL)),
}

# Two spellings of one parameter: the second is another name of the first.
ALIASES = {
    "learning_rate": "eta",
    "min_split_loss": "gamma",
    "lambda": "reg_lambda",
    "alpha": "reg_alpha",
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
    return isinstance(TABLE.get(name), Passed)


def check_names(names: Iterable[str], error: type[Exception], where: str) -> None:
    """Raise for parameters that are refused or unknown, with what to use instead."""
    for name in names:
        fate = TABLE.get(name)
        if isinstance(fate, Passed) or (where == "params" and name in _OWN):
            continue
        if isinstance(fate, Ours):
            raise InvalidValueError(f"{where}: {name!r} cannot be given; use {fate.name}, a parameter of the estimator")
        if isinstance(fate, Refused):
            raise InvalidValueError(f"{where}: {name!r} cannot be given; {fate.why}")
        alike = difflib.get_close_matches(name, PARAMETERS, n=1)
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
    if task is None:
        raise InvalidValueError(
            f"objective={objective!r} is not an objective of xgboost; use binary:, multi:, reg:, count:, survival: or rank: "
            "objectives"
        )
    return task
