"""What several runs found, side by side: tables and comparisons."""

from jax_rcl import moved

__getattr__, __dir__, __all__ = moved.attach(__name__, __file__)
