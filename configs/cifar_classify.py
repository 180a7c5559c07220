"""Cross-entropy on CIFAR: the supervised baseline, or a linear probe trained by SGD.

    python -m jax_rcl.main --config=configs/cifar_classify.py --workdir=runs/cifar_base
    python -m jax_rcl.main --workdir=runs/cifar_probe \
        --config=configs/cifar_classify.py:probe=runs/cifar_supcon,epochs=100

The second takes the frozen encoder of a finished run, here one of cifar_supcon.py.
Khosla et al. 2020 report 95.0 % (CIFAR-10) and 75.3 % (CIFAR-100) for the baseline
with a ResNet-50. Obtained: not yet run.
Options of the file: `probe` (a workdir), `classes`, `epochs`, `batch_size`, `depth`,
`compute`.
"""

from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.geometry import Flip, RandomCrop
from jax_rcl.config import Experiment, node, parse
from jax_rcl.data.sources import Cifar
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.when import Every
from jax_rcl.networks.heads import Linear, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.classify import FROZEN_ENCODER, Classify
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import Cosine
from jax_rcl.weights.restore import Restore


def get_config(arg=""):
    """The experiment; see the options above."""
    options = parse(
        arg,
        probe="",
        classes=10,
        epochs=200,
        batch_size=512,
        depth=18,
        compute="float32",
    )
    train = node(Cifar, options.classes, "train")
    encoder = node(
        Normalized,
        encoder=node(
            ResNet, depth=options.depth, stem="small", compute=options.compute
        ),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
    )
    objective = node(
        Classify,
        encoder,
        head=node(Linear, options.classes),
        encoder_is="frozen" if options.probe else "trained",
    )
    restore = node(Restore, options.probe, FROZEN_ENCODER)
    return node(
        Experiment,
        source=train,
        augment=node(
            Views, node(Chain, (node(RandomCrop, 32, padding=4), node(Flip))), count=1
        ),
        objective=objective,
        optimizer=node(
            Sgd,
            learning_rate=1.0 if options.probe else 0.2,
            schedule=node(Cosine),
            weight_decay=0.0 if options.probe else 5e-4,
            decayed="all",
            nesterov=True,
        ),
        batch_size=options.batch_size,
        epochs=options.epochs,
        init_from=(restore,) if options.probe else (),
        evaluators={
            "test": node(
                HeadAccuracy,
                node(Cifar, options.classes, "test"),
                when=node(Every, epochs=10),
            ),
        },
    )
