"""Features of another run's encoder, as a prior of a source."""

import dataclasses
import functools
import logging
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import jax
import numpy as np
import tqdm
from jaxtyping import Float32, Int32
from ml_collections import ConfigDict

from jax_rcl import parallel
from jax_rcl.augment import compose
from jax_rcl.checkpoint import Which, folder_of, progress, saved_steps
from jax_rcl.config.types import ConfigError, unknown
from jax_rcl.config.workdir import stored_config
from jax_rcl.core import Encode, Operation, Source
from jax_rcl.data import stream
from jax_rcl.data.prior import Informed
from jax_rcl.data.records import Record, labels_of
from jax_rcl.data.wrappers import AllOf
from jax_rcl.ranges import Count, ranged
from jax_rcl.train.evaluation import make_encoder
from jax_rcl.train.plan import encoded_shapes, refusals
from jax_rcl.train.run import Run
from jax_rcl.train.state import restore_variables

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
@ranged
class WithFeatures(Informed):
    """A source whose records have features of another run's encoder as their prior.

    `prior` is float32 [f]. The images are encoded once, on first use, without
    augmentation and in inference mode; equal sources in one program share the result.
    The run may be that of an autoencoder, as a stand-in for a generative model. A
    warning says if it is unfinished or was trained with labels. For many programs, or a
    source of millions, write the features to a file once: `jax-rcl prepare features`,
    then `WithPrior`.

    Attributes:
      source: all of it; wrap this class, not the source, to choose records.
      workdir: of the other run; the data that it was trained on must be available.
      preprocess: a deterministic operation on each image, such as a resize and a
        central crop; None where the images have a size that the encoder takes.
      batch_size: images in a call; affects memory, speed and rounding only.
    """

    source: Source
    workdir: str
    layer: str = "features"
    preprocess: Operation | None = None
    which: Which = "newest"
    batch_size: Count = 256

    @functools.cached_property
    def priors(self) -> Float32[np.ndarray, "m f"]:
        """The features of all records, [m, f], read-only."""
        workdir = Path(self.workdir).expanduser().absolute()
        try:
            state = state_of(workdir, self.which)
        except ConfigError as error:
            raise ConfigError(f"WithFeatures.workdir: {error}") from error
        return _encoded(dataclasses.replace(self, workdir=str(workdir)), state)


@runtime_checkable
class Clusters(Protocol):
    """Splits classes into clusters, such as `evaluate.recovery.Clustering`."""

    def within(
        self,
        x: Float32[np.ndarray, "m f"],
        labels: Int32[np.ndarray, " m"],
        class_names: tuple[str, ...],
        counts: tuple[int, ...],
    ) -> Int32[np.ndarray, " m"]:
        """The cluster of each row: those of class 0 come first, then of class 1."""
        ...


@dataclasses.dataclass(frozen=True)
@ranged
class WithFoundGroups(AllOf):
    """A source whose groups are clusters of another run's features, within classes.

    For group DRO where nobody labelled groups: train a classifier, then protect the
    groups that it tells apart. Groups of the source's own are not looked at. Found
    once, on first use, as `WithFeatures` encodes images.

    Attributes:
      workdir, layer, preprocess, which, batch_size: as for `WithFeatures`.
      counts: how many groups each class is split into.
      clustering: how, such as `evaluate.recovery.Clustering()`.
      images: the same records as the other run takes them, where those of `source` are
        whole photographs; None for those of `source`.
    """

    source: Source
    workdir: str
    counts: tuple[Count, ...]
    clustering: Clusters
    layer: str = "features"
    preprocess: Operation | None = None
    which: Which = "newest"
    batch_size: Count = 256
    images: Source | None = None

    @property
    def group_names(self) -> tuple[str, ...]:
        """A class, and which of its clusters, from 1."""
        names = self.class_names
        if len(names) != len(self.counts):
            raise ValueError(
                f"WithFoundGroups.counts {self.counts} must be one number for each of "
                f"the {len(names)} classes of {self.source!r}."
            )
        return tuple(
            f"{name}, cluster {place + 1}"
            for name, count in zip(names, self.counts, strict=True)
            for place in range(count)
        )

    @functools.cached_property
    def all_groups(self) -> Int32[np.ndarray, " m"]:  # pyright: ignore[reportIncompatibleVariableOverride] as in other sources
        """The groups of all records."""
        _ = self.group_names
        workdir = Path(self.workdir).expanduser().absolute()
        try:
            state = state_of(workdir, self.which)
        except ConfigError as error:
            raise ConfigError(f"WithFoundGroups.workdir: {error}") from error
        settings = self.layer, self.preprocess, self.which, self.batch_size
        images = self.source if self.images is None else self.images
        if len(images) != len(self.source):
            raise ValueError(
                f"WithFoundGroups.images has {len(images)} records and its source "
                f"{len(self.source)}; they must be the same ones."
            )
        wanted = WithFeatures(images, str(workdir), *settings)
        x = _encoded(wanted, state, "groups")
        given = x, labels_of(self.source), self.class_names, self.counts
        return self.clustering.within(*given)

    def __getitem__(self, index: int) -> Record:
        return {**self.source[index], "group": self.all_groups[index]}


def state_of(workdir: Path, which: Which = "newest") -> tuple[str, int]:
    """The step of a run's checkpoint and when it was written, which identify it."""
    stored_config(workdir)
    steps = saved_steps(workdir, which)
    if not steps:
        others, kind = saved_steps(workdir), f"{which} checkpoint"
        hint = "train it first, at least up to its first checkpoint."
        if others and which == "best":
            hint = (
                'its config has no `best`. Take which="newest", or train it with '
                'best=node(Best, "<evaluator>/<number>").'
            )
        elif others:
            kind = f"checkpoint of step {which}"
            hint = f"there are those of {', '.join(map(str, others))}."
        raise ConfigError(f"{workdir} holds no {kind}: {hint}")
    folder = workdir / folder_of(which) / str(steps[-1])
    return folder.name, folder.stat().st_mtime_ns


def encoder_of(
    workdir: Path, which: Which = "newest", become: Literal["prior", "groups"] = "prior"
) -> tuple[Run, Encode]:
    """The run that a workdir holds, without its evaluators, and its encoder.

    Warns if the run is unfinished or, where its features become a prior, was trained
    with labels.
    """
    config = stored_config(workdir)
    with config.unlocked():
        # Their data may be missing, and the best state may be chosen by one of them.
        config.evaluators = ConfigDict({}, type_safe=False).lock()
        config.best = None
    run = Run.prepare(config, workdir)
    done, planned = progress(workdir)
    if planned is not None and done < planned:
        logger.warning(
            "the run of %s, whose features are a prior here, is unfinished: it was "
            "saved at step %d of %d."
            if become == "prior"
            else "the run of %s, in whose features groups are found, is unfinished: it "
            "was saved at step %d of %d.",
            workdir,
            done,
            planned,
        )
    if become == "prior" and "label" in run.experiment.objective.needs:
        logger.warning(
            "the run of %s was trained with labels: its features contain them, and "
            "what takes them as a prior is not unsupervised.",
            workdir,
        )
    return run, make_encoder(run)(restore_variables(run, which)[1])


# `state`, what `state_of` gives, is in the key, as a run may have gone on since.
@functools.lru_cache(maxsize=4)
def _encoded(
    wanted: WithFeatures,
    state: tuple[str, int],
    become: Literal["prior", "groups"] = "prior",
) -> Float32[np.ndarray, "m f"]:
    """The features of every image of a source, in order; read-only."""
    source, layer = wanted.source, wanted.layer
    run, encode = encoder_of(Path(wanted.workdir), wanted.which, become)
    rows, first = np.empty((len(source), _width(run, wanted)), np.float32), 0
    hidden = not parallel.is_main()
    with tqdm.tqdm(
        total=len(rows), desc="encoding", unit="image", delay=2, disable=hidden
    ) as bar:
        for batch, mask in stream.eval_batches(source, wanted.batch_size):
            images = _prepare(wanted.preprocess, batch["image"])
            count = int(mask.sum())
            found = np.asarray(encode(images, (layer,))[layer], np.float32)
            rows[first : first + count] = found[mask]
            first += count
            bar.update(count)
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise ValueError(
            f"layer {layer!r} of the run of {run.workdir} is not finite for "
            f"{len(broken)} of {len(rows)} images of {source!r}, first record "
            f"{broken[0]}; the encoder has diverged. Train it with a lower learning "
            f"rate, or take another checkpoint."
        )
    rows.flags.writeable = False
    return rows


def _width(run: Run, wanted: WithFeatures) -> int:
    """The length f of the vectors of a layer; nothing is computed."""
    if not len(wanted.source):
        raise ValueError(f"{wanted.source!r} is empty; there is nothing to encode.")
    shape, preprocess = np.shape(wanted.source[0]["image"]), wanted.preprocess
    with refusals(f"the run of {run.workdir}"):
        layers = encoded_shapes(run.experiment, run.plan.variables, shape, preprocess)
    vectors = [name for name, x in layers.items() if x.ndim == 2]
    if wanted.layer not in vectors:
        words = f"the run of {run.workdir} gives no layer"
        raise ValueError(unknown(words, wanted.layer, vectors))
    return layers[wanted.layer].shape[1]


@functools.partial(jax.jit, static_argnums=0)
def _prepare(preprocess: Operation | None, images: jax.Array) -> jax.Array:
    return compose.prepare(preprocess, images)
