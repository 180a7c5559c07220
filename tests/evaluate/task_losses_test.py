"""Losses on images held out, one for each task, are those computed by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.core import Clock, Evaluator, Variables
from jax_rcl.evaluate.task_losses import TaskLosses, cross_entropy
from jax_rcl.objectives.spread import Spread
from jax_rcl.objectives.terms import Contrast


class Told:
    """Logits of the mean color; what is decoded is the image, a little brighter."""

    def __call__(self, images, layers=None):
        images = np.asarray(images)
        if layers == ("decoded",):
            return {"decoded": images + np.float32(0.1)}
        flat = images.reshape(len(images), -1)
        return {"features": flat, "logits": flat[:, :3]}


def turned(key, image):
    """Both views of an image are it upside down."""
    return image[::-1]


def dimmed(key, image):
    """Both views of an image have every other row at half its brightness."""
    return image.at[::2].multiply(0.5)


def test_each_loss_is_the_mean_over_images_and_views(blobs):
    source, term = blobs(8), Contrast()
    fields = {"terms": {"spread": term}, "reconstruction": "decoded", "batch_size": 4}
    losses = TaskLosses(source, turned, **fields)
    assert isinstance(losses, Evaluator)
    assert losses.needs == {"features", "logits", "decoded"}
    losses.check()
    numbers = losses.run(Told())
    rows = (source.images[:, ::-1] / 255).astype(np.float32).reshape(8, -1)
    np.testing.assert_allclose(
        numbers["cross_entropy"], cross_entropy(rows[:, :3], source.labels), rtol=1e-5
    )
    chances = np.exp(rows[:, :3]) / np.exp(rows[:, :3]).sum(axis=1, keepdims=True)
    expected = -np.log(chances[np.arange(8), source.labels]).mean()
    np.testing.assert_allclose(numbers["cross_entropy"], expected, rtol=1e-5)
    parts = [
        np.mean(term(*(jnp.asarray(rows[part]),) * 2, jnp.int32(source.labels[part])))
        for part in (slice(4), slice(4, 8))
    ]
    np.testing.assert_allclose(numbers["spread"], np.mean(parts), rtol=1e-5)
    np.testing.assert_allclose(numbers["reconstruction"], 0.01, rtol=1e-4)


class Pixels(nn.Module):
    """Pixels as features, which have no parameters and are of any length."""

    @nn.compact
    def __call__(self, images, *, train):
        return images.reshape(len(images), -1)


def test_held_out_terms_are_those_of_the_objective_in_each_form(blobs):
    contrasts = (
        *(Contrast(kind, similarity=kind) for kind in ("cosine", "dot", "released")),
        Contrast("clipped", logit_clip=1.0, direction="one-way"),
    )
    objective = Spread(Pixels(), None, contrasts)
    source = blobs(8)
    views = (source.images[:, None] / 255).astype(np.float32).repeat(2, axis=1)
    views[:, :, ::2] *= 0.5
    given = {"views": jnp.asarray(views), "label": jnp.asarray(source.labels)}
    variables = Variables(params={"encoder": {}}, frozen={}, memory={"encoder": {}})

    def loss(variables, batch):
        clock = Clock(jax.random.key(0), jnp.int32(0), jnp.float32(0))
        return parallel.mean(dict(objective.loss(variables, batch, clock).metrics))

    mesh = parallel.make_mesh(jax.devices()[:1])
    trained = jax.jit(parallel.data_parallel(loss, mesh))(variables, given)
    losses = TaskLosses(source, dimmed, terms=contrasts, logits=None)
    found = losses.run(lambda images: objective.encode(variables, jnp.asarray(images)))
    assert list(found) == [term.name for term in contrasts]
    for name, value in found.items():
        np.testing.assert_allclose(value, trained[name], rtol=1e-5)
    assert len({round(value, 3) for value in found.values()}) == 4


@pytest.mark.parametrize(("size", "same"), [(3, 6), (9, 8)])
def test_a_last_batch_counts_only_if_it_is_all(size, same, blobs, in_memory):
    source = blobs(8)
    few = in_memory(source.images[:same], source.labels[:same], source.class_names)
    whole = TaskLosses(source, turned, batch_size=size).run(Told())
    assert whole == TaskLosses(few, turned, batch_size=size).run(Told())
    assert whole.keys() == {"cross_entropy"}


def test_an_operation_before_the_views_is_refused(blobs):
    with pytest.raises(ValueError, match="preprocess does nothing: `views` makes"):
        TaskLosses(blobs(8), turned, preprocess=lambda key, image: image).check()
