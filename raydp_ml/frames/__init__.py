"""The kinds of input: what each is, which columns it has, and how its rows and predictions travel."""

from typing import TYPE_CHECKING

from raydp_ml.lazy import lazy_names

if TYPE_CHECKING:
    from raydp_ml.frames.arrays import Arrays as Arrays
    from raydp_ml.frames.arrays import Blocks as Blocks
    from raydp_ml.frames.columns import Column as Column
    from raydp_ml.frames.columns import Feature as Feature
    from raydp_ml.frames.columns import Selection as Selection
    from raydp_ml.frames.frame import Frame as Frame
    from raydp_ml.frames.prediction import Predictor as Predictor
    from raydp_ml.frames.registry import open_frame as open_frame
    from raydp_ml.frames.registry import require_frame as require_frame

_HOME = {
    "Arrays": "raydp_ml.frames.arrays",
    "Blocks": "raydp_ml.frames.arrays",
    "Column": "raydp_ml.frames.columns",
    "Feature": "raydp_ml.frames.columns",
    "Frame": "raydp_ml.frames.frame",
    "Predictor": "raydp_ml.frames.prediction",
    "Selection": "raydp_ml.frames.columns",
    "open_frame": "raydp_ml.frames.registry",
    "require_frame": "raydp_ml.frames.registry",
}

__all__ = [
    "Arrays",
    "Blocks",
    "Column",
    "Feature",
    "Frame",
    "Predictor",
    "Selection",
    "open_frame",
    "require_frame",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
