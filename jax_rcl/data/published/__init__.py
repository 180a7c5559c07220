"""Data sets in the layout in which they were published."""

from jax_rcl import moved

__getattr__, __dir__, __all__ = moved.attach(__name__, __file__)
