"""Networks and an operation of which little is to be traced or compiled."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from jax_rcl import parallel


class Pixels(nn.Module):
    """The smallest encoder that takes images of one size only."""

    width: int = 8

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(self.width, name="dense")(images.reshape(len(images), -1))


class Flat(nn.Module):
    """One dense layer of an image's mean colour, and a statistic of batches."""

    width: int = 8
    image_size: int = 32  # configs ask towers of CLIP for it

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(self.width, name="dense")(images.mean((1, 2)))
        mean = self.variable("batch_stats", "mean", jnp.zeros, self.width)
        if train and not self.is_initializing():
            mean.value = parallel.device_average(x.mean(0))
        return x


class FlatDecoder(nn.Module):
    """One dense layer from features to an image."""

    size: int
    channels: int

    @nn.compact
    def __call__(self, features, *, train):
        shape = (len(features), self.size, self.size, self.channels)
        return nn.Dense(shape[1] * shape[2] * shape[3])(features).reshape(shape)


@dataclasses.dataclass(frozen=True)
class Blank:
    """A square of an image's mean colour."""

    size: int

    def __call__(self, key, image):
        return jnp.broadcast_to(
            image.mean((0, 1)), (self.size, self.size, image.shape[2])
        )
