"""The kinds of input: what each is, which columns it has, and how its rows and predictions travel."""

from typing import TYPE_CHECKING

from raydp_ml.lazy import lazy_names

if TYPE_CHECKING:
    from raydp_ml.frames.frame import Frame as Frame
    from raydp_ml.frames.registry import open_frame as open_frame
    from raydp_ml.frames.registry import require_frame as require_frame

_HOME = {
    "Frame": "raydp_ml.frames.frame",
    "open_frame": "raydp_ml.frames.registry",
    "require_frame": "raydp_ml.frames.registry",
}

__all__ = ["Frame", "open_frame", "require_frame"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
