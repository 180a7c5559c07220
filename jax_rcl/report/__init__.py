"""What a person looks at: console, TensorBoard, JSON lines, pictures, a page."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
