"""Losses of class predictions."""

import jax
import optax
from jaxtyping import Array, Float, Int

from jax_rcl.losses.pairwise import widen
from jax_rcl.ranges import Share, check


def smoothed_cross_entropy(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], *, smoothing: float = 0.0
) -> Float[Array, " b"]:
    """Cross entropy of each prediction with a softened label.

        -Σ_k t_k log softmax(logits)_k,  t = (1 - smoothing) onehot(label) + smoothing/k

    Label smoothing as in Szegedy et al. 2016, section 7
    (https://arxiv.org/abs/1512.00567): the share is spread over all k classes, the true
    one included. In float32 or wider, here and below.
    """
    check(smoothing, Share, "smoothing")
    logits = widen(logits)
    onehot = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
    targets = optax.losses.smooth_labels(onehot, smoothing)
    return optax.losses.softmax_cross_entropy(logits, targets)


def soft_cross_entropy(
    logits: Float[Array, "b k"],
    targets: Float[Array, "b k"],
    *,
    class_weights: Float[Array, " k"] | None = None,
) -> Float[Array, " b"]:
    """Cross entropy of each prediction with a distribution over classes.

        -Σ_k w_k t_k log softmax(logits)_k

    Rows of `targets` t sum to 1, such as labels after mixup; `class_weights` w are at
    least 0, None for 1.
    """
    logits = widen(logits)
    targets = targets.astype(logits.dtype)
    if class_weights is not None:
        targets = targets * class_weights.astype(logits.dtype)[None, :]
    return optax.losses.softmax_cross_entropy(logits, targets)


def binary_cross_entropy(
    logits: Float[Array, "b k"], targets: Float[Array, "b k"]
) -> Float[Array, " b"]:
    """Cross entropy of k independent yes-or-no predictions, their mean.

        -1/k Σ_k ( t_k log σ(logit_k) + (1 - t_k) log(1 - σ(logit_k)) )

    `targets` t are probabilities of yes, in [0, 1].
    """
    logits = widen(logits)
    targets = targets.astype(logits.dtype)
    return optax.losses.sigmoid_binary_cross_entropy(logits, targets).mean(axis=1)
