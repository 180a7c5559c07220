"""CLIP's text tower: token ids to vectors beside those of images."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_rcl.networks.clip_block import EPSILON, HEAD_WIDTH, Activation, Block
from jax_rcl.networks.heads import check_multiple
from jax_rcl.networks.norms import Compute, wide
from jax_rcl.networks.vit import layer_norm
from jax_rcl.ranges import Count, ranged


@ranged
class ClipText(nn.Module):
    """The text encoder of CLIP (Radford et al. 2021, section 2.4).

    A transformer whose tokens attend to themselves and to those before. Its output at
    the token with the largest id, which in CLIP's vocabulary is the end of the text, is
    normalised and multiplied by `projection`: what follows the end has no influence.
    Variables are `params` only; names are those that `weights/clip.py` fills.

    The cosine of a text's and an image's vector, times a learned scale, is CLIP's
    logit. That scale belongs to neither tower and is not a parameter here. Fields of a
    published tower: `weights.clip.architecture(weights.clip.read(file)).text`.

    Attributes:
      output: width of the result, the same as that of the image tower.
      context: the most tokens of a text, counting both ends.
      heads: of attention; they divide the width. None is width / 64.
    """

    width: Count
    layers: Count
    output: Count
    context: Count = 77
    vocabulary: Count = 49408
    heads: Count | None = None
    activation: Activation = "quick gelu"
    compute: Compute = "float32"

    def __post_init__(self) -> None:
        if self.heads is None:
            reason = "the width of a head unless `heads` says how many there are"
            check_multiple(self, "width", HEAD_WIDTH, reason)
        else:
            check_multiple(self, "width", self.heads, "as `heads` share it evenly")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b t"], *, train: bool
    ) -> Float[Array, "b d"]:
        """Vectors of texts, not normalised.

        Args:
          tokens: ids in [0, vocabulary); an id beyond gives NaN. The end has the
            largest id of its row; the first one counts where there are several.
            Rows may be shorter than `context`.
          train: changes nothing.
        """
        del train
        count = tokens.shape[1]
        if count > self.context:
            raise ValueError(
                f"ClipText reads {self.context} tokens at most; got rows of {count}. "
                f"Shorten the texts, both ends counted."
            )
        normal = nn.initializers.normal
        table = self.param("tokens", normal(0.02), (self.vocabulary, self.width))
        positions = self.param("positions", normal(0.01), (self.context, self.width))
        x = jnp.take(table, tokens, axis=0, mode="fill", fill_value=jnp.nan)
        x = (x + positions[None, :count]).astype(self.compute)
        heads, kind = self.heads or self.width // HEAD_WIDTH, self.activation
        for place in range(1, self.layers + 1):
            x = Block(heads, kind, "text", self.layers, name=f"block{place}")(x)
        end = tokens.argmax(axis=1)[:, None, None]
        x = wide(jnp.take_along_axis(x, end, axis=1))
        x = layer_norm(x, name="norm_after", epsilon=EPSILON)[:, 0]
        start = normal(self.width**-0.5)
        return x @ self.param("projection", start, (self.width, self.output))
