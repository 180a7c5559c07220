"""A config that compiles in a second."""

from jax_rcl.augment.compose import Views
from jax_rcl.augment.geometry import Flip
from jax_rcl.config.experiment import Experiment
from jax_rcl.config.files import parse
from jax_rcl.config.nodes import node
from jax_rcl.data.sources import Synthetic
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.when import Every
from jax_rcl.networks.heads import Mlp
from jax_rcl.objectives.supcon import SupCon
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import Cosine
from tests.stand_ins import Pixels


def get_config(arg=""):
    """One dense layer on 64 images of 8 x 8, three epochs of four steps.

    A vote is held every epoch, a checkpoint written every 5 steps.
    """
    options = parse(arg, epochs=3, batch_size=16, count=64)
    train = node(Synthetic, classes=4, size=8, count=options.count)
    test = node(Synthetic, classes=4, size=8, count=20, seed=1)
    return node(
        Experiment,
        source=train,
        augment=node(Views, node(Flip)),
        objective=node(
            SupCon,
            encoder=node(Pixels),
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
