"""What every objective promises, asked of every objective."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_rcl import objectives, parallel
from jax_rcl.augment.compose import Views
from jax_rcl.checkpoint import flat
from jax_rcl.core import Objective
from jax_rcl.losses.kernels import Cosine, Rbf
from jax_rcl.networks.dropout import Dropout
from jax_rcl.networks.heads import Linear, Mlp
from jax_rcl.networks.norms import normalized
from jax_rcl.objectives.classify import Classify
from jax_rcl.objectives.distill import Distill
from jax_rcl.objectives.group_dro import GroupDRO
from jax_rcl.objectives.knowledge_distillation import KnowledgeDistillation
from jax_rcl.objectives.moco import MoCo
from jax_rcl.objectives.spread import Spread
from jax_rcl.objectives.supcon import SimCLR, SupCon
from jax_rcl.objectives.terms import Contrast, Reconstruction
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.train import step as train_step


class Tiny(nn.Module):
    """One layer with batch statistics, which couple examples of all devices."""

    norm: str = "sync"

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(6, use_bias=False, name="layer")(images.reshape(len(images), -1))
        ghost_batch = 2 if self.norm == "local" else None
        return nn.relu(
            normalized(x, self.norm, train=train, name="norm", ghost_batch=ghost_batch)
        )


class Dropping(nn.Module):
    """An encoder that draws randomness in training."""

    @nn.compact
    def __call__(self, images, *, train):
        x = Tiny(name="body")(images, train=train)
        return Dropout(0.3, name="dropout")(x, train=train)


class Painter(nn.Module):
    """A decoder with batch statistics."""

    @nn.compact
    def __call__(self, features, *, train):
        x = nn.Dense(6, use_bias=False, name="hidden")(features)
        x = nn.relu(normalized(x, "sync", train=train, name="norm"))
        return nn.Dense(SIDE * SIDE * 3, name="out")(x).reshape(-1, SIDE, SIDE, 3)


@dataclasses.dataclass(frozen=True)
class Noisy:
    """Random views that compile faster than crops."""

    def __call__(self, key, image):
        return image + 0.3 * jax.random.normal(key, image.shape)


SIDE = 3
ENCODER, PROJECTOR = Tiny(), Linear(4)
RELEASED = Contrast(logit_clip=1.0, similarity="released", direction="one-way", block=5)

N = 16

# Every method, in every form in which its arrays or its formula differ.
OBJECTIVES = {
    "supcon": SupCon(ENCODER, PROJECTOR),
    "supcon-in-blocks": SupCon(ENCODER, PROJECTOR, positives="in", block=5),
    "simclr": SimCLR(ENCODER, PROJECTOR),
    "classify": Classify(ENCODER, Linear(4), smoothing=0.1),
    "classify-frozen": Classify(ENCODER, Linear(4), encoder_is="frozen"),
    "classify-frozen-in-training-mode": Classify(
        Dropping(), Linear(4), encoder_is="frozen in training mode", targets="target"
    ),
    "distill": Distill(ENCODER, block=5),
    "distill-simclr": Distill(Dropping(), ENCODER, "simclr", classes=5),
    "distill-students": Distill(ENCODER, loss_type="simclr_ss"),
    "distill-both": Distill(ENCODER, loss_type="simclr_both"),
    "distill-released": Distill(ENCODER, loss_type="clip", teacher_norm="batch"),
    "distill-mse": Distill(ENCODER, loss_type="mse"),
    "knowledge-distillation": KnowledgeDistillation(Dropping(), Linear(4)),
    "group-dro": GroupDRO(Classify(ENCODER, Linear(4)), 4, 0.5, 1.0, (9, 5, 2, 1)),
    "spread": Spread(Dropping(), Linear(4)),
    "spread-released": Spread(
        ENCODER,
        None,
        (
            RELEASED,
            Contrast("infonce", classes="examples", positives_in_denominator=2.0),
        ),
    ),
    "thanos": Spread(
        ENCODER,
        Linear(4),
        reconstruction=Reconstruction(Painter(), reads="features and label"),
        encoder_auto=Dropping(),
    ),
    "moco": MoCo(Dropping(), PROJECTOR, queue_size=2 * N, temperature=0.2),
    "moco-nonsemantic": MoCo(ENCODER, PROJECTOR, N, 0.9, negatives=2, alpha=2.0),
    "moco-released": MoCo(Tiny(norm="local"), PROJECTOR, 2 * N, 0.5, keys="shuffled"),
    "uniformity": Uniformity(ENCODER, PROJECTOR, block=5),
    "uniformity-kernel": Uniformity(
        Dropping(), Mlp((6, 4), first="relu"), Linear(6), kernel=Rbf(1.0, "median")
    ),
    "uniformity-released": Uniformity(
        ENCODER, PROJECTOR, Linear(6), Cosine(), scope="device", group=2
    ),
}
# One formula of each class is asked by default, the others with the slow tests.
DEFAULT = {
    "supcon",
    "simclr",
    "classify-frozen-in-training-mode",
    "distill",
    "knowledge-distillation",
    "group-dro",
    "thanos",
    "moco-nonsemantic",
    "uniformity-kernel",
}

VIEWS = Views(Noisy())
OPTIMIZER = optax.sgd(0.1, momentum=0.9)

each = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in DEFAULT else pytest.mark.slow)
        for name in OBJECTIVES
    ],
)


def augmented(objective):
    """Makes two views of each image, which are a pair, too.

    What an objective does not name in `needs` is dropped, so that reading it fails.
    """

    def augment(clock, batch):
        batch = VIEWS(clock, batch)
        clean, distorted = batch["views"][:, 0], batch["views"][:, 1]
        batch = {**batch, "clean": clean, "distorted": distorted}
        return {key: batch[key] for key in objective.needs}

    return augment


def make_batch(n=N):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (n, SIDE, SIDE, 3), np.uint8)
    label, group = rng.integers(0, 4, (2, n)).astype(np.int32)
    target = rng.dirichlet(np.ones(4), n).astype(np.float32)
    negatives = rng.random((n, 2, SIDE, SIDE, 3), np.float32)
    prior = rng.normal(size=(n, 5)).astype(np.float32)
    return {
        "image": image,
        "label": label,
        "group": group,
        "target": target,
        "negatives": negatives,
        "prior": prior,
    }


@functools.cache
def fresh(name):
    objective = OBJECTIVES[name]
    views = jnp.zeros((1, 2, SIDE, SIDE, 3))
    batch = {k: jnp.asarray(x) for k, x in make_batch(1).items()}
    batch |= {"views": views, "clean": views[:, 0], "distorted": views[:, 1]}
    needed = {key: batch[key] for key in objective.needs}
    return train_step.create(objective, OPTIMIZER, 0, needed)


@functools.cache
def train(name, devices):
    """State and metrics after three steps with random views."""
    objective, mesh = OBJECTIVES[name], parallel.make_mesh(jax.devices()[:devices])
    update = train_step.make_update(
        objective, augmented(objective), OPTIMIZER, total_steps=10
    )
    step = train_step.make_step(update, mesh)
    # A step may donate its state, and `fresh` is kept.
    state = parallel.replicate(jax.tree.map(jnp.copy, fresh(name)), mesh)
    batches = parallel.put_steps({k: x[None] for k, x in make_batch().items()}, mesh)
    count = parallel.replicate(np.int32(1), mesh)
    for _ in range(3):
        state, metrics = step(state, count, {}, batches)
    return jax.device_get((state, metrics))


def test_every_class_of_objectives_is_asked_by_default():
    found = set()
    for module in pkgutil.iter_modules(objectives.__path__):
        loaded = importlib.import_module(f"jax_rcl.objectives.{module.name}")
        for _, cls in inspect.getmembers(loaded, dataclasses.is_dataclass):
            if cls.__module__ == loaded.__name__ and hasattr(cls, "loss"):
                found.add(cls)
    assert found == {type(OBJECTIVES[name]) for name in DEFAULT}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_a_value_of_the_protocol(name):
    objective = OBJECTIVES[name]
    assert isinstance(objective, Objective)
    assert objective == dataclasses.replace(objective)
    assert hash(objective) == hash(dataclasses.replace(objective))


@each
def test_the_result_is_the_same_on_one_device_and_on_eight(name):
    (one, metrics), (eight, same_metrics) = train(name, 1), train(name, 8)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        (one.variables, metrics),
        (eight.variables, same_metrics),
    )


@each
def test_training_moves_params_and_never_frozen(name):
    before = jax.device_get(fresh(name).variables)
    after = train(name, 8)[0].variables
    assert jax.tree.structure(before) == jax.tree.structure(after)
    same_shapes = jax.tree.map(
        lambda a, b: a.shape == b.shape and a.dtype == b.dtype, before, after
    )
    assert all(jax.tree.leaves(same_shapes))
    jax.tree.map(np.testing.assert_array_equal, before.frozen, after.frozen)
    moved = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), before.params, after.params
    )
    assert all(jax.tree.leaves(moved))


@each
def test_every_parameter_gets_a_gradient(name):
    # Momentum keeps a running sum of gradients, to which nothing else is added here.
    gradients = train(name, 8)[0].opt_state[0].trace
    for path, gradient in flat(gradients).items():
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


@each
def test_encode_depends_on_each_image_alone(name):
    objective, variables = OBJECTIVES[name], fresh(name).variables
    images = jnp.asarray(make_batch()["image"] / 255, jnp.float32)
    encode = jax.jit(objective.encode)
    together = encode(variables, images)
    other = encode(variables, images.at[1:].set(0.5))
    for layer, rows in together.items():
        assert rows.shape[0] == N and np.isfinite(rows).all()
        np.testing.assert_allclose(rows[0], other[layer][0], rtol=1e-5, atol=1e-6)
        assert not np.allclose(rows[1], other[layer][1])


@each
def test_no_name_in_a_checkpoint_was_made_up_by_flax(name):
    paths = flat(fresh(name).variables)
    made_up = [path for path in paths if any(p.endswith("_0") for p in path.split("/"))]
    assert not made_up
