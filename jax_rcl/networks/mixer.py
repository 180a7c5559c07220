"""MLP-Mixer: perceptrons across the patches of an image and across their channels."""

import flax.linen as nn
from jaxtyping import Array, Float

from jax_rcl.networks.dropout import Dropout, Rate
from jax_rcl.networks.norms import Compute, wide
from jax_rcl.networks.vit import layer_norm, patch_tokens, perceptron
from jax_rcl.ranges import Count, ranged


class MixerBlock(nn.Module):
    """x + tokens(norm(x)), which mixes places, then x + channels(norm(x)), with GELU.

    The hidden layers have `token_width` units per channel and `mlp_width` per token.
    """

    token_width: int
    mlp_width: int
    rate: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], *, train: bool
    ) -> Float[Array, "b n d"]:
        y = layer_norm(x, name="tokens_norm", epsilon=1e-5).swapaxes(1, 2)
        settings = {"initial": "uniform", "rate": self.rate, "train": train}
        y = perceptron(y, self.token_width, name="tokens", **settings)
        x = x + y.swapaxes(1, 2)
        y = layer_norm(x, name="channels_norm", epsilon=1e-5)
        return x + perceptron(y, self.mlp_width, name="channels", **settings)


@ranged
class Mixer(nn.Module):
    """MLP-Mixer without its classifier: images to features, the mean over patches.

    The blocks, the last normalisation and the mean are those of Tolstikhin et al. 2021,
    figure 1. As the encoder of Perfectly Balanced (Chen et al. 2022) it differs from
    their networks: both hidden layers are twice as wide as what they mix (there half
    and four times), patches are normalised after their product, there is dropout, and
    products start as PyTorch's, weights and biases uniform in ±1/√fan-in.

    The weights of the token perceptrons are for one number of patches, hence for one
    size of image. Training with `dropout` draws from the collection `dropout`, and
    then runs inside `parallel.data_parallel` only.

    Attributes:
      patch: side of a patch in pixels; height and width are multiples of it.
      token_width: hidden units across patches; None is 2·patches.
      mlp_width: hidden units across channels; None is 2·width.
      dropout: rate in [0, 1) for the patches and in all perceptrons.
    """

    patch: Count
    width: Count = 256
    depth: Count = 4
    token_width: Count | None = None
    mlp_width: Count | None = None
    dropout: Rate = 0.0
    compute: Compute = "float32"

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b d"]:
        x = patch_tokens(
            images,
            self.patch,
            self.width,
            owner="Mixer",
            initial="uniform",
            compute=self.compute,
        )
        x = layer_norm(x, name="patches_norm", epsilon=1e-5)
        x = Dropout(self.dropout, name="patches_dropout")(x, train=train)
        for place in range(1, self.depth + 1):
            x = MixerBlock(
                self.token_width or 2 * x.shape[1],
                self.mlp_width or 2 * self.width,
                self.dropout,
                name=f"block{place}",
            )(x, train=train)
        x = layer_norm(wide(x), name="norm", epsilon=1e-5)
        return x.mean(axis=1)
