"""Configs: trees of nodes, each checked against the class that it configures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
