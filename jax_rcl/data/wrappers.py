"""Sources made of other sources: a share of the records, other labels or channels."""

import dataclasses
import functools
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int32, Int64

from jax_rcl.core import Source
from jax_rcl.data.published.coarse import CoarseMap
from jax_rcl.data.records import (
    Fraction,
    Held,
    Record,
    Seed,
    balanced_share,
    group_names_of,
    groups_of,
    labels_of,
    names_of,
    permutation,
    stored_bytes,
    torch_permutation,
)
from jax_rcl.ranges import Count, Within, ranged


def _passed_on(name: str, default: Any = None) -> Any:
    """A property: what `source` knows of each record, or the default, for these."""
    return property(lambda self: self._pick(getattr(self.source, name, default)))


class Around:
    """A source made of another, `source`: what is known of its records is passed on.

    Names of classes and groups are not, as in some sources they are fields.
    """

    source: Source

    all_groups = _passed_on("all_groups")
    all_targets = _passed_on("all_targets")
    priors = _passed_on("priors")
    keywords = _passed_on("keywords", ())

    @property
    def all_labels(self) -> Int32[np.ndarray, " s"]:
        """The labels of all records."""
        return self._pick(labels_of(self.source))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all records; empty where the source does not say."""
        return self._pick(names_of(self.source))

    @property
    def target_names(self) -> tuple[str, ...]:
        """What each target means; empty where there are none."""
        return getattr(self.source, "target_names", ())

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        return self.source[index]

    def stored(self, index: int) -> bytes | None:
        """See `records.stored_bytes`."""
        return stored_bytes(self.source, index)

    def _pick(self, rows: Any) -> Any:
        """Of something known of each record of `source`, what belongs to these."""
        return rows


class AllOf(Around):
    """All records of `source`, in its order, with its classes and groups."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @property
    def group_names(self) -> tuple[str, ...]:
        """What each group means; empty where there are none."""
        return group_names_of(self.source)


class Chosen(AllOf):
    """Random access to those records of `source` whose places are `indices`."""

    indices: Int64[np.ndarray, " s"]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        return self.source[int(self.indices[index])]

    def stored(self, index: int) -> bytes | None:
        return stored_bytes(self.source, int(self.indices[index]))

    def _pick(self, rows: Any) -> Any:
        if isinstance(rows, tuple):
            return tuple(rows[i] for i in self.indices) if rows else ()
        return None if rows is None else rows[self.indices]


@dataclasses.dataclass(frozen=True)
@ranged
class Subset(Chosen):
    """A random share of every class of a source with labels, drawn once by `seed`.

    A class of c examples gives round(fraction · c) of them, but at least one; they keep
    their order. Larger fractions contain what smaller ones of the same seed contain.
    """

    source: Source
    fraction: Fraction
    seed: Seed = 0

    @functools.cached_property
    def indices(self) -> Int64[np.ndarray, " s"]:
        return balanced_share(labels_of(self.source), self.fraction, self.seed)


@dataclasses.dataclass(frozen=True)
@ranged
class Split(Chosen):
    """A part of a source for training, or what is held out of it for validation.

    Of the permutation that PyTorch draws from `seed` the first int(n · (1 - val_share))
    records are `train`, the others `val`, in its order. The defaults are the split of
    Fu et al. 2022 (https://arxiv.org/abs/2204.07596). Classes are not balanced.
    """

    source: Source
    part: Literal["train", "val"] = "train"
    val_share: Held = 0.1
    seed: Annotated[int, Within(0, 2**32, "high")] = 42

    @functools.cached_property
    def indices(self) -> Int64[np.ndarray, " s"]:
        count = len(self.source)
        first = int(count * (1 - self.val_share))
        if not 0 < first < count:
            raise ValueError(
                f"Split.val_share {self.val_share} of the {count} records of "
                f"{self.source!r} leaves {first} to train and {count - first} to val; "
                f"each needs at least one."
            )
        rows = slice(first) if self.part == "train" else slice(first, None)
        return torch_permutation(count, self.seed)[rows]


@dataclasses.dataclass(frozen=True)
@ranged
class Unbalanced(Chosen):
    """Makes some of the fine classes inside each coarse one frequent and others rare.

    The j-th fine class of every coarse class, by label, keeps `counts[j]` examples. The
    defaults with the map CIFAR100 make CIFAR100-U (Fu et al. 2022), 950 examples of
    each superclass. Labels stay the fine ones. Wrap the training images only, and all
    of them, as a class has no more than 500: `Split(Unbalanced(train, CIFAR100))`.

    Attributes:
      draw: `distinct` takes every example at most once; `replaced` puts it back after
        each draw.
    """

    source: Source
    coarse: CoarseMap
    counts: tuple[Count, ...] = (500, 250, 100, 50, 50)
    # Deviation: the released code draws with replacement, without a seed, and thins and
    # repeats the test images alike. Its draw is `draw="replaced"`.
    draw: Literal["distinct", "replaced"] = "distinct"
    seed: Seed = 0

    def __post_init__(self) -> None:
        for name, fine in zip(
            self.coarse.class_names, self.coarse.members, strict=True
        ):
            if len(fine) not in (0, len(self.counts)):
                raise ValueError(
                    f"Unbalanced.counts has {len(self.counts)} numbers, but {name!r} "
                    f"of the map {self.coarse.name!r} has {len(fine)} fine classes; "
                    f"give one number for each."
                )

    @functools.cached_property
    def indices(self) -> Int64[np.ndarray, " s"]:
        """Which records of the source these are, in ascending order."""
        self.coarse.check(self.source)
        labels = labels_of(self.source)
        drawn = [
            self._draw(np.flatnonzero(labels == fine), fine, count)
            for members in self.coarse.members
            for fine, count in zip(members, self.counts, strict=False)
        ]
        return np.sort(np.concatenate(drawn))

    def _draw(
        self, places: Int64[np.ndarray, " c"], fine: int, count: int
    ) -> Int64[np.ndarray, " s"]:
        """Chooses `count` of the places of one fine class."""
        needed = count if self.draw == "distinct" else 1
        if len(places) < needed:
            raise ValueError(
                f"Unbalanced.counts asks for {count} of fine class {fine}, but "
                f"{self.source!r} has {len(places)}; ask for fewer, or split later."
            )
        if self.draw == "distinct":
            return places[permutation(len(places), self.seed, fine)[:count]]
        bits = np.random.Philox(key=self.seed, counter=[0, 0, 0, fine])
        return places[bits.random_raw(count) % np.uint64(len(places))]


@dataclasses.dataclass(frozen=True)
class Relabel(Around):
    """A source under other labels, such as coarse ones: label y becomes mapping[y].

    On first use, before a run compiles, the mapping is checked to have one entry for
    each class that the source names. Groups stay what they are.

    Attributes:
      source: with labels in [0, len(mapping)); evaluate the old labels on it.
      mapping: the new label of each old one.
      name: what errors call the mapping.
    """

    source: Source
    mapping: tuple[int, ...]
    class_names: tuple[str, ...]
    name: str = "Relabel.mapping"

    def __post_init__(self) -> None:
        CoarseMap(self.name, self.mapping, self.class_names)

    @property
    def group_names(self) -> tuple[str, ...]:
        return group_names_of(self.source)

    @property
    def all_labels(self) -> Int32[np.ndarray, " m"]:
        """The new labels of all records."""
        return self._mapped(labels_of(self._checked))

    def __len__(self) -> int:
        return len(self._checked)

    def __getitem__(self, index: int) -> Record:
        record = self._checked[index]
        return {**record, "label": self._mapped(record["label"], index)}

    @functools.cached_property
    def _checked(self) -> Source:
        CoarseMap(self.name, self.mapping, self.class_names).check(self.source)
        return self.source

    def _mapped(self, labels: Any, first: int = 0) -> Any:
        """The new labels of the old ones of some records, the first of them `first`."""
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.mapping)))
        if len(wrong):
            raise ValueError(
                f"record {first + wrong[0]} of {self.source!r} has label "
                f"{np.ravel(labels)[wrong[0]]}, but the map {self.name!r} has entries "
                f"for 0 to {len(self.mapping) - 1} only; correct the label, or add "
                f"what is missing to `mapping`."
            )
        return np.array(self.mapping, np.int32)[labels]


def coarsened(source: Source, coarse: CoarseMap) -> Relabel:
    """The source under coarse labels; its `source` still has the fine ones.

    In a config: `node(Relabel, source, **vars(coarse))`.
    """
    return Relabel(source, coarse.mapping, coarse.class_names, coarse.name)


@dataclasses.dataclass(frozen=True)
@ranged
class EqualGroups(Chosen):
    """Every group as often as the largest: the records of smaller ones are repeated.

    An epoch draws each group equally often, which group DRO (Sagawa et al. 2020,
    https://arxiv.org/abs/1911.08731) reaches on average by drawing with replacement.
    All records are seen in it, those of a group at most once more than others of it.
    Groups without a record stay without.
    """

    source: Source
    seed: Seed = 0

    @functools.cached_property
    def indices(self) -> Int64[np.ndarray, " s"]:
        groups = groups_of(self.source)
        places = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        most = max(map(len, places))
        repeated = []
        for number, rows in enumerate(places):
            whole, rest = divmod(most, len(rows))
            few = rows[permutation(len(rows), self.seed, number)[:rest]]
            repeated += [np.tile(rows, whole), few]
        return np.sort(np.concatenate(repeated))


@dataclasses.dataclass(frozen=True)
@ranged
class Channels(AllOf):
    """Gray images with their one channel repeated `count` times, as if in colour."""

    source: Source
    count: Count = 3

    def __getitem__(self, index: int) -> Record:
        record = super().__getitem__(index)
        channels = record["image"].shape[-1]
        if channels != 1:
            raise ValueError(
                f"Channels repeats one channel, but images of {self.source!r} have "
                f"{channels}; omit Channels."
            )
        return {**record, "image": np.repeat(record["image"], self.count, axis=-1)}
