"""Methods: frozen dataclasses of three pure functions, one file each.

An `encoder` takes images [b, h, w, c] in [0, 1] to features [b, f], which are kept; a
`projector` takes features to the embeddings [b, d] that are compared, and a `head` to
logits [b, k].
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
