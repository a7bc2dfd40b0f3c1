"""Callbacks of xgboost, written as what they were made from; what they note in a training is not written."""

from __future__ import annotations

from typing import Any

from raydp_ml.persistence.codecs.codec import Codec, Reader, Writer
from raydp_ml.persistence.codecs.objects import CODEC as OBJECTS
from raydp_ml.persistence.codecs.objects import written

__all__ = ["CODEC", "XGBoostCodec"]

# Where each callback keeps its arguments; seen in xgboost 2.1 to 3.2.
_ARGUMENTS = {
    "EarlyStopping": {
        "rounds": "rounds",
        "metric_name": "metric_name",
        "data_name": "data",
        "maximize": "maximize",
        "save_best": "save_best",
        "min_delta": "_min_delta",
    },
    "EvaluationMonitor": {"rank": "printer_rank", "period": "period", "show_stdv": "show_stdv"},
}


class XGBoostCodec(Codec):
    """Callbacks of xgboost, in the form of other small objects."""

    def encode(self, value: Any, writer: Writer) -> dict[str, Any] | None:
        kind = type(value)
        if kind.__module__ != "xgboost.callback" or kind.__name__ not in _ARGUMENTS:
            return None
        kept = vars(value)
        arguments = {name: kept[key] for name, key in _ARGUMENTS[kind.__name__].items() if key in kept}
        return written(value, arguments, writer)

    def decode(self, tag: str, body: Any, reader: Reader) -> Any:
        return OBJECTS.decode(tag, body, reader)


CODEC = XGBoostCodec()
