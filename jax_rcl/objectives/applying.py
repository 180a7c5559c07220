"""The only calls of a network's `init` and `apply`, and what methods share.

A network's parameters and its batch statistics are kept apart, as `params[name]` and
`memory[name]` of `Variables`; a network without statistics has an empty dict there.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_rcl import parallel
from jax_rcl.core import Network, Tree, Variables
from jax_rcl.losses import pairwise


def fresh(
    network: Network, key: jax.Array, inputs: jax.Array
) -> tuple[Tree, Tree, jax.Array]:
    """Initialises a network; gives (parameters, statistics, its outputs)."""
    outputs, variables = network.init_with_output(key, inputs, train=False)
    return variables.get("params", {}), variables.get("batch_stats", {}), outputs


def train_apply(
    network: Network, params: Tree, stats: Tree, inputs: jax.Array, key: jax.Array
) -> tuple[jax.Array, Tree]:
    """Applies a network in training mode; gives (outputs, new statistics).

    `key`, the same on every device, is the randomness of dropout.
    """
    variables = {"params": params, "batch_stats": stats}
    outputs, changed = network.apply(
        variables, inputs, train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )
    return outputs, changed.get("batch_stats", {})


def eval_apply(
    network: Network, params: Tree, stats: Tree, inputs: jax.Array
) -> jax.Array:
    """Applies a network in inference mode: each row depends on its own input alone."""
    variables = {"params": params, "batch_stats": stats}
    return network.apply(variables, inputs, train=False)


def fresh_chain(
    networks: Mapping[str, Network], key: jax.Array, inputs: jax.Array
) -> tuple[Variables, jax.Array]:
    """Initialises networks that feed one another; gives their variables and the output.

    `networks` are by the names that `params` and `memory` have for them, in order.
    """
    params, memory = {}, {}
    keys = jax.random.split(key, len(networks))
    for own_key, (name, network) in zip(keys, networks.items(), strict=True):
        params[name], memory[name], inputs = fresh(network, own_key, inputs)
    return Variables(params=params, frozen={}, memory=memory), inputs


def copies(variables: Variables) -> dict[str, Any]:
    """Parameters and statistics of each network, as one that is frozen or slow."""
    return {
        name: {"params": params, "batch_stats": variables.memory[name]}
        for name, params in variables.params.items()
    }


LAYERS = ("features", "embedding")
"""What `encode` calls the outputs of encoder and projector."""


def networks_of(objective: Any) -> dict[str, Network]:
    """The two networks, by the names under which `Variables` keeps them."""
    return {"encoder": objective.encoder, "projector": objective.projector}


def flat_views(
    z: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[b, v, d] to unit rows [b·v, d], an id for each view and its label."""
    b, v, d = z.shape
    rows = pairwise.unit(z).reshape(b * v, d)
    return rows, pairwise.view_ids(parallel.example_ids(b), v), jnp.repeat(labels, v)


def embed_views(
    networks: Mapping[str, Network],
    variables: Variables,
    views: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, dict[str, Any]]:
    """Applies networks of `fresh_chain` to all views [b, v, h, w, c], training.

    Gives the output of the last, [b, v, ...], and the new `Variables.memory`. `key`,
    the same on every device, is the randomness of dropout.
    """
    b, v = views.shape[:2]
    outputs, memory = views.reshape(b * v, *views.shape[2:]), dict(variables.memory)
    keys = jax.random.split(key, len(networks))
    for own_key, (name, network) in zip(keys, networks.items(), strict=True):
        outputs, memory[name] = train_apply(
            network, variables.params[name], memory[name], outputs, own_key
        )
    return outputs.reshape(b, v, *outputs.shape[1:]), memory


def encode_with(
    networks: Mapping[str, Network],
    layers: tuple[str, ...],
    variables: Variables,
    images: jax.Array,
) -> dict[str, jax.Array]:
    """Outputs of networks of `fresh_chain` in inference mode, called `layers`."""
    outputs = {}
    for layer, (name, network) in zip(layers, networks.items(), strict=True):
        params, stats = variables.params[name], variables.memory[name]
        images = outputs[layer] = eval_apply(network, params, stats, images)
    return outputs


def check_comparable(owner: str, n: int, views: int = 2) -> None:
    """Raises ValueError where nothing is left to compare an example with.

    Args:
      owner: what compares, for the error.
      n: examples that are compared with each other.
      views: of each, of which two are compared.
    """
    if views < 2:
        raise ValueError(
            f"{owner} compares the views of an image with each other, but there is "
            f"one: nothing would be learned. Let the augmentation make two or more: "
            f"Views(..., count=2)."
        )
    if n < 2:
        raise ValueError(
            f"{owner} compares an example with the others of its batch, but there is "
            f"one: the loss would be the same whatever the network does. Write a "
            f"batch_size of 2 or more."
        )


def share_right(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1.0 for each row whose largest logit is that of its label, else 0.0."""
    return (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)


def spread(unit: jax.Array) -> jax.Array:
    """1 - ‖mean unit vector‖² over the global batch, of unit vectors [..., d]."""
    own = unit.mean(axis=tuple(range(unit.ndim - 1)))
    return 1 - jnp.sum(parallel.device_average(own) ** 2)


def view_metrics(z: jax.Array) -> dict[str, jax.Array]:
    """Metrics that distinguish collapse from learning, for views [b, v, d].

    `alignment`: mean squared distance of a unit view to the mean of the views of its
    example, 0 when all views agree (for two views, a quarter of the squared distance
    between them, which is the alignment of Wang & Isola 2020). `spread`: 0 when all
    embeddings are one point and nearly 1 when they fill the sphere.
    """
    unit = jax.lax.stop_gradient(pairwise.unit(z))
    centre = unit.mean(axis=1, keepdims=True)
    return {"alignment": jnp.sum((unit - centre) ** 2, axis=-1), "spread": spread(unit)}
