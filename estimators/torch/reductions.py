"""How losses of PyTorch make one number of a batch, so that weights of rows can be put in."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from raydp_ml.errors import InvalidValueError

__all__ = ["Reduction", "reduction_of"]

# Losses whose mean is divided by the weights of the rows' classes: sum(weight[y] * loss) / sum(weight[y]).
_BY_CLASS = ("CrossEntropyLoss", "NLLLoss", "ProbabilityNLLLoss", "cross_entropy", "nll_loss")
# Two ways to add up float32 losses differ by this part of their sum at most.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Reduction:
    """How a loss makes one number of a batch.

    ``how`` is "mean", "sum" (of all rows), "batchmean" (the sum divided by the number of rows) or "none"; ``by_row`` gives the
    losses of the rows. A loss with weights of classes divides its mean by those of the rows, and one that ignores a class leaves
    its rows out of the count.
    """

    how: str
    by_row: Callable[..., Any]
    class_weight: Any = None
    ignored: int | None = None

    @property
    def by_class(self) -> bool:
        """Whether what a mean is divided by depends on the labels."""
        return self.how == "mean" and (self.class_weight is not None or self.ignored is not None)

    def rows(self, outputs: Any, target: Any, *inputs: Any) -> Any:
        """The loss of each row; some losses look at the model's inputs, too."""
        rows = self.by_row(outputs, target, *inputs)
        if rows.ndim == 0:
            raise InvalidValueError(
                "rows have weights, but the loss gives one number for a batch: let it take 'reduction' and give the losses of the "
                'rows for reduction="none", or use no weights'
            )
        flat = rows.reshape(len(rows), -1)
        return flat.sum(dim=1) if self.how in ("sum", "batchmean") else flat.mean(dim=1)

    def counted(self, target: Any, weight: Any) -> Any:
        """How much each row counts in the mean."""
        if not self.by_class:
            return weight
        known = target != self.ignored
        if self.class_weight is None:
            return weight * known
        return weight * known * self.class_weight[target * known]

    def check(self, rows: Any, target: Any, value: Any) -> None:
        """Raise when the losses of the rows, all with weight 1, are not the loss itself."""
        found = rows.sum()
        if self.how != "sum":
            found = found / self.counted(target, rows.new_ones(len(rows))).sum()
        if bool((found - value).abs() > _TOLERANCE * value.abs() + 1e-6):
            raise InvalidValueError(
                f"rows have weights, but the loss of a batch ({float(value):.6g}) is not what the losses of its rows give "
                f'({float(found):.6g}), so they cannot be weighted: let reduction="none" give the losses whose '
                f"{'sum' if self.how == 'sum' else 'mean'} it is, or use no weights"
            )


def reduction_of(loss: Callable[..., Any]) -> Reduction:
    """How a loss makes one number of a batch.

    Parameters
    ----------
    loss : torch.nn.Module or callable
        With a ``reduction`` as the losses of torch.nn and torch.nn.functional have it, as an attribute or an argument; another one
        must give the losses of the rows.

    Examples
    --------
    >>> import torch
    >>> reduction_of(torch.nn.MSELoss(reduction="sum")).how
    'sum'
    """
    function, given = (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})
    if hasattr(function, "reduction"):
        by_row = copy.deepcopy(function)
        by_row.reduction = "none"
        names = [base.__name__ for base in type(function).__mro__]
        about = {name: getattr(function, name, None) for name in ("weight", "ignore_index")}
        how = function.reduction
        without = partial(by_row, **given) if given else by_row
    elif inspect.isfunction(function) and "reduction" in inspect.signature(function).parameters:
        defaults = {name: item.default for name, item in inspect.signature(function).parameters.items()}
        names, about = [function.__name__], {**defaults, **given}
        how = about["reduction"]
        without = partial(loss, **{"reduction": "none"})
    else:
        return Reduction("none", loss)
    weighs = any(name in _BY_CLASS for name in names)
    ignored = about.get("ignore_index")
    return Reduction(
        how=how,
        by_row=without,
        class_weight=about.get("weight") if weighs else None,
        # -100 and the like are no class numbers: no row has them.
        ignored=ignored if weighs and ignored is not None and ignored >= 0 else None,
    )
