"""Training that goes on: the weights and the optimizer's state of before, with what changed between the calls."""

from __future__ import annotations

import copy
from typing import Any

import torch

from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.codecs.torch_modules import set_unsaved_buffers, unsaved_buffers

__all__ = ["state_to_keep", "take_state", "with_weights_of"]


def with_weights_of(trained: torch.nn.Module, given: torch.nn.Module) -> torch.nn.Module:
    """A module that goes on: as it is given now, with the weights of before.

    Parameters
    ----------
    trained : torch.nn.Module
        What the fit before made.
    given : torch.nn.Module
        What the parameter ``model`` says now, built anew.

    Raises
    ------
    InvalidValueError
        When the weights do not fit into what is given now.
    """
    if repr(given) == repr(trained):
        return copy.deepcopy(trained)
    before = {name: tuple(value.shape) for name, value in trained.state_dict().items()}
    if any(torch.nn.parameter.is_lazy(each) for each in given.parameters()):
        return copy.deepcopy(trained)  # what it will be like is known when it has seen rows: as the one of before
    now = {name: tuple(value.shape) for name, value in given.state_dict().items()}
    differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if differing:
        raise InvalidValueError(
            f"the model has changed since the fit before: {', '.join(differing[:5])} differ, so that training cannot go on with "
            "its weights; fit without warm_start"
        )
    given.load_state_dict(trained.state_dict())
    set_unsaved_buffers(given, unsaved_buffers(trained))
    return given


def take_state(optimizer: torch.optim.Optimizer, before: dict[str, Any]) -> None:
    """Give an optimizer what the one of before had gathered; its options stay those of this fit.

    Another kind of optimizer has other options and gathers other things, so it starts anew.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Made for this fit.
    before : dict
        ``state_dict()`` of the one before.
    """
    made = optimizer.state_dict()

    def layout(state: dict[str, Any]) -> list[tuple[int, frozenset[str]]]:
        # Schedulers leave options of their own in the groups.
        theirs = {"params", "initial_lr", "swa_lr"}
        return [(len(group["params"]), frozenset(group) - theirs) for group in state["param_groups"]]

    if layout(made) == layout(before):
        optimizer.load_state_dict({"state": before["state"], "param_groups": made["param_groups"]})


def state_to_keep(state: Any) -> Any:
    """The ``state_dict()`` of an optimizer in memory of its own, on the CPU: it is read in processes that may have no GPU.

    Parameters
    ----------
    state : dict
        Tensors, other values, and dicts, lists and tuples of them.

    Examples
    --------
    >>> state_to_keep({"exp_avg": [torch.zeros(2)], "lr": 0.1})
    {'exp_avg': [tensor([0., 0.])], 'lr': 0.1}
    """
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: state_to_keep(value) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(map(state_to_keep, state))
    return copy.deepcopy(state)
