"""Robust contrastive representation learning in JAX and Flax.

`import jax_rcl as rcl` gives the parts by their folders, such as `rcl.losses.supcon`
and `rcl.objectives.MoCo`; each is imported when it is first used.
"""

import lazy_loader

from jax_rcl import moved

__version__ = "0.2.0.dev0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

moved.install()
