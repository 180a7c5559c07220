"""Embeddings of the names of classes by CLIP's text tower."""

import dataclasses
import functools
import html
import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax
from jaxtyping import Float32, Int32
from sklearn.preprocessing import normalize

from jax_rcl.checkpoint import flat
from jax_rcl.core import Variables
from jax_rcl.data.kept import read_once
from jax_rcl.data.published.imagenet import IMAGENET_100, IMAGENET_100_NAMES
from jax_rcl.evaluate.zero_shot import ClassEmbeddings
from jax_rcl.networks.clip_block import Activation
from jax_rcl.networks.clip_text import ClipText
from jax_rcl.ranges import Count, ranged
from jax_rcl.weights import clip
from jax_rcl.weights.clip import Checksum
from jax_rcl.weights.restore import replace_leaves

CONTEXT = 77
"""Tokens that CLIP's text towers read, both ends counted."""

VOCABULARY = 49_408
"""Tokens there are: of bytes and their merges, and the two ends, which come last."""

START, END = VOCABULARY - 2, VOCABULARY - 1
"""What a text begins and ends with."""

TEXTS = 256
"""Texts in a call of the text tower."""

KNOWN: dict[str, str] = dict(zip(IMAGENET_100, IMAGENET_100_NAMES, strict=True))
"""Names of classes that sources know by a WordNet id."""


@dataclasses.dataclass(frozen=True)
@ranged
class FromText:
    """Class embeddings that CLIP's text tower gives texts with the names of classes.

    A class is the mean over the templates of the tower's vectors, each of unit length,
    and that mean in unit length (Radford et al. 2021, https://arxiv.org/abs/2103.00020,
    section 3.1.4). Computed once in a process for the same classes. Needs the extra
    `zeroshot`; `jax-rcl prepare class_embeddings` writes them to a file that does not.

    Attributes:
      file: CLIP's weights with both towers, in any form that `weights.clip` reads.
      templates: texts in which {} stands for the name. The default is that of Ravula et
        al. 2021, who put no article before the name.
      names: what each class is called, by the source's name for it, or in the order of
        the source's classes. None takes the source's names with spaces for underscores,
        and for WordNet ids of ImageNet-100 `IMAGENET_100_NAMES`.
      activation: of the tower; weights do not tell. OpenAI's have `quick gelu`, many
        others `gelu`.
      checksum: "known" compares files of the names under which OpenAI published them
        with their digests; "any" does not.
      heads: of the tower's attention, which weights do not tell either; None where its
        width is that of a published model.
    """

    file: str
    templates: tuple[str, ...] = ("A photo of {}",)
    # Not hashed, as a mapping cannot be; equal rules have equal hashes all the same.
    names: Mapping[str, str] | tuple[str, ...] | None = dataclasses.field(
        default=None, hash=False
    )
    activation: Activation = "quick gelu"
    checksum: Checksum = "known"
    heads: Count | None = None

    def __post_init__(self) -> None:
        if not self.templates or any("{}" not in text for text in self.templates):
            raise ValueError(
                f"FromText.templates {self.templates} must be one text or more, each "
                f"with {{}} where the name goes, such as 'A photo of {{}}'."
            )

    def __str__(self) -> str:
        first, more = self.templates[0], len(self.templates) - 1
        others = f" and {more} more templates" if more else ""
        return f"{self.file} for {first!r}{others}"

    def __call__(self, class_names: tuple[str, ...]) -> Float32[np.ndarray, "k d"]:
        """One row of unit length for each of the classes."""
        texts = tuple(
            template.replace("{}", name)
            for name in called(class_names, self.names)
            for template in self.templates
        )
        return _embedded(
            Path(self.file).expanduser(),
            texts,
            len(self.templates),
            activation=self.activation,
            checksum=self.checksum,
            heads=self.heads,
        )


@dataclasses.dataclass(frozen=True)
class FillClasses:
    """Keeps class embeddings in the run itself: a rule of `init_from` for `Distill`.

    The run then needs neither text tower nor file to be evaluated.

    Attributes:
      names: what the source calls its classes, in the order of its labels.
      place: which variable they fill, [k, d].
    """

    classes: ClassEmbeddings
    names: tuple[str, ...]
    place: str = "frozen/classes"

    def __call__(self, variables: Variables) -> Variables:
        """Replaces what is at `place`, which must have their number and width."""
        wanted = flat(variables).get(self.place)
        if wanted is None:
            raise ValueError(
                f"FillClasses: there is no '{self.place}' in this run; write "
                f"Distill(classes={len(self.names)}), which keeps them."
            )
        rows = self.classes(self.names)
        if rows.shape != wanted.shape:
            raise ValueError(
                f"FillClasses: {self.classes} gives {list(rows.shape)} for "
                f"{len(self.names)} classes, and '{self.place}' holds "
                f"{list(wanted.shape)}: as many as Distill.classes, as wide as the "
                f"encoder's features. Give embeddings of the same CLIP."
            )
        return replace_leaves(variables, {self.place: rows})


def called(
    class_names: tuple[str, ...],
    names: Mapping[str, str] | tuple[str, ...] | None = None,
) -> tuple[str, ...]:
    """What each class is called in a text; `names` as for `FromText`."""
    if isinstance(names, tuple):
        if len(names) != len(class_names):
            raise ValueError(
                f"FromText.names has {len(names)} names for {len(class_names)} "
                f"classes; give one for each, in the order of the source's."
            )
        return names
    if names is None:
        plain = [x for x in class_names if not re.fullmatch(r"n\d{8}", x)]
        names = {name: name.replace("_", " ") for name in plain} | KNOWN
    nameless = [name for name in class_names if name not in names]
    if nameless:
        raise ValueError(
            f"{len(nameless)} of {len(class_names)} classes have no name to write in a "
            f"text, first {nameless[0]!r}; give FromText.names, such as "
            f"{{{nameless[0]!r}: 'robin'}}."
        )
    return tuple(names[name] for name in class_names)


def tokens(texts: Sequence[str], *, context: int = CONTEXT) -> Int32[np.ndarray, "n t"]:
    """Token ids of texts: `START`, the text's, `END`, then zeros.

    Byte-pair codes of lower-cased text, as CLIP was trained (Radford et al. 2021,
    section 2.4); HTML's names of characters are replaced first.

    Needs the extra `zeroshot`. A text of more than `context` tokens is an error; white
    space counts for nothing.
    """
    try:
        library = importlib.import_module("instant_clip_tokenizer")
    except ImportError as error:
        raise ImportError(
            "tokens of text need CLIP's vocabulary: pip install 'jax_rcl[zeroshot]'; "
            "or make a file of class embeddings where that is installed, by `jax-rcl "
            "prepare class_embeddings`, and use FromFile."
        ) from error
    tokenizer = library.Tokenizer()
    rows = np.zeros((len(texts), context), np.int32)
    for row, text in zip(rows, texts, strict=True):
        found = [START, *tokenizer.encode(html.unescape(html.unescape(text))), END]
        if len(found) > context:
            raise ValueError(
                f"the text {text!r} has {len(found)} tokens, its two ends counted; the "
                f"text tower reads {context} at most. Shorten the name or the template."
            )
        row[: len(found)] = found
    return rows


@read_once()
def _embedded(
    file: Path, texts: tuple[str, ...], templates: int, **settings: Any
) -> Float32[np.ndarray, "k d"]:
    """Unit means of the unit vectors of each `templates` texts, read-only."""
    vectors = np.asarray(normalize(text_features(str(file), texts, **settings)))
    means = vectors.reshape(-1, templates, vectors.shape[1]).mean(axis=1)
    means = np.asarray(normalize(means))
    means.flags.writeable = False
    return means


def text_features(
    file: str,
    texts: Sequence[str],
    *,
    activation: Activation = "quick gelu",
    checksum: Checksum = "known",
    heads: int | None = None,
) -> Float32[np.ndarray, "n d"]:
    """Features of one or more texts by CLIP's text tower; not normalised."""
    state = clip.read(Path(file).expanduser(), checksum)
    fields = clip.architecture(state, text_heads=heads).text
    if fields is None:
        raise ValueError(f"{file} has no text tower; take weights of all of CLIP.")
    if fields["vocabulary"] != VOCABULARY:
        raise ValueError(
            f"the text tower of {file} has {fields['vocabulary']} tokens, CLIP's "
            f"vocabulary {VOCABULARY}; make class embeddings with its own and use "
            f"FromFile."
        )
    tower = ClipText(**fields, activation=activation)
    ids = tokens(texts, context=tower.context)
    # What follows the end has no influence and need not be computed.
    ids = ids[:, : int(ids.argmax(axis=1).max()) + 1]
    shapes = jax.eval_shape(
        functools.partial(tower.init, train=False), jax.random.key(0), ids[:1]
    )
    variables = clip.to_variables(state, {"text": shapes})["text"]

    @jax.jit
    def embed(variables: Any, ids: jax.Array) -> Any:
        def one(row: jax.Array) -> Any:
            return tower.apply(variables, row[None], train=False)[0]

        return lax.map(one, ids, batch_size=min(TEXTS, len(ids)))

    return np.asarray(embed(variables, ids))
