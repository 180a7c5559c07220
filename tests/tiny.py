"""A config that compiles in seconds, and a network that compiles in less."""

import functools

import flax.linen as nn
import jax

from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.geometry import Flip, RandomResizedCrop
from jax_rcl.config.experiment import Experiment
from jax_rcl.config.files import parse
from jax_rcl.config.nodes import node
from jax_rcl.data.sources import Synthetic
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.when import Every
from jax_rcl.networks.heads import Mlp
from jax_rcl.networks.norms import normalized
from jax_rcl.networks.vit import ViT
from jax_rcl.objectives.supcon import SupCon
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import Cosine

quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_cpu_use_fusion_emitters": False}
)
"""`jax.jit` that compiles for a third of the processor's time, at the top level only.

Fused operations are compiled the older way, whose rounding differs.
"""


def get_config(arg=""):
    """A ViT on 64 images of 8 x 8, three epochs of four steps.

    A vote is held every epoch, a checkpoint written every 5 steps.
    """
    options = parse(arg, epochs=3, batch_size=16, count=64)
    train = node(Synthetic, classes=4, size=8, count=options.count)
    test = node(Synthetic, classes=4, size=8, count=20, seed=1)
    crop = node(RandomResizedCrop, 8, area=(0.3, 1.0))
    return node(
        Experiment,
        source=train,
        augment=node(Views, node(Chain, (crop, node(Flip)))),
        objective=node(
            SupCon,
            encoder=node(ViT, patch=4, width=8, depth=1, heads=2, pool="mean"),
            projector=node(Mlp, (8, 8), norm="sync"),
        ),
        optimizer=node(Sgd, 0.02, schedule=node(Cosine), nesterov=True),
        batch_size=options.batch_size,
        epochs=options.epochs,
        evaluators={
            "knn": node(Neighbours, train, test, k=5, when=node(Every, epochs=1))
        },
        log_every=1,
        save_every=5,
    )


class Flat(nn.Module):
    """One dense layer of an image's mean colour, and statistics of batches."""

    width: int = 8
    image_size: int = 32  # configs ask towers of CLIP for it

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(self.width, name="dense")(images.mean((1, 2)))
        return normalized(x, "local", train=train, name="norm")
