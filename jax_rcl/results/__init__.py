"""What several runs found, side by side: tables and comparisons."""

from typing import Any

import lazy_loader

from jax_rcl import moved

_getattr, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A part of this package, or what was in `jax_rcl.results` before 0.2."""
    try:
        return _getattr(name)
    except AttributeError:
        return moved.find(__name__, name)
