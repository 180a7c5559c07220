"""Sources whose records carry prior knowledge beside their images.

A prior is a vector that is similar for similar images: attributes, or features of
another model. Kernels on it smooth what is learned (Dufumier et al. 2023,
https://arxiv.org/abs/2206.01646); its length p and its meaning are free.
"""

import dataclasses
import functools
import itertools
import logging
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Integer, Shaped

from jax_rcl.core import Source
from jax_rcl.data.prior_files import check_finite, chunks, matrix, read_arrays, texts
from jax_rcl.data.records import (
    Held,
    Record,
    Seed,
    labels_of,
    names_of,
    stored_bytes,
)
from jax_rcl.data.wrappers import AllOf
from jax_rcl.ranges import Count, ranged

logger = logging.getLogger(__name__)


class Informed(AllOf):
    """Random access to the records of `source`, each with its row of `priors`.

    Wrappers that take only some of the records go around this,
    `Subset(WithPrior(...), 0.1)`; those that look for files go inside,
    `WithPrior(WithTexture(...), ...)`.
    """

    source: Source
    priors: Float32[np.ndarray, "m p"]

    def __getitem__(self, index: int) -> Record:
        # A copy: of a mapped file the row is read here, by the thread that asks for it.
        return {**super().__getitem__(index), "prior": np.array(self.priors[index])}

    def stored(self, index: int) -> bytes | None:
        inside = stored_bytes(self.source, index)
        return None if inside is None else inside + self.priors[index].tobytes()

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: another process reads or draws the priors itself."""
        settings: Any = self
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(settings)}


@dataclasses.dataclass(frozen=True)
@ranged
class WithPrior(Informed):
    """A source, each record with its row of a file: `prior`, float32 [p].

    The file is `.npz` with `prior` [m, p] (or [m, 1, p]), row i for record i; optional
    `labels`, those of the source, [m], or its targets, [m, t]; and optional `names`,
    the source's, [m], by which a wrong order is found. Or it is `.npy` with nothing but
    the rows. `jax-rcl prepare features` writes such a file, `jax-rcl prepare join` puts
    one in the order of a source. Everything is checked once, on first use. An
    uncompressed `.npz` and an `.npy` are mapped, not loaded.

    A prior that encodes the label makes an unsupervised method a supervised one, so it
    is refused unless it is meant: rows that are equal, to a thousandth, exactly where
    labels are; rows that belong to one label each and are shared by two records or more
    on average, such as finer labels; and one-hot columns among others. The outputs of a
    classifier cannot be distinguished from honest features: do not use them.

    Attributes:
      source: all of it; choose among its records around this one.
      labels: whether a prior may be the labels in another form: `refused` or `meant`.
    """

    source: Source
    file: str
    labels: Literal["refused", "meant"] = "refused"
    PLACES = frozenset({"file"})

    @functools.cached_property
    def priors(self) -> Float32[np.ndarray, "m p"]:
        """The priors of all records, [m, p]; read-only where the file is mapped."""
        path = Path(self.file).expanduser()
        arrays = read_arrays(path, ("prior", "labels", "names"))
        if "prior" not in arrays:
            with zipfile.ZipFile(path) as archive:
                there = ", ".join(archive.namelist()) or "none"
            raise ValueError(
                f"{path} has no array 'prior'; it has {there}. Save it by "
                f"numpy.savez(file, prior=rows, names=names)."
            )
        found = matrix(arrays["prior"], "prior", path)
        m = len(self.source)
        if len(found) != m:
            raise ValueError(
                f"{path} has {len(found)} rows of prior for {m} records of "
                f"{self.source!r}; there must be one for each. Wrap the whole source, "
                f"then choose among its records: Subset(WithPrior(source, file), 0.1). "
                f"If the file has names, jax-rcl prepare join picks the rows needed."
            )
        if "names" in arrays:
            _check_names(self.source, texts(arrays["names"], path), path)
        labels = getattr(self.source, "all_targets", None)
        if m and "label" in self.source[0]:
            labels = labels_of(self.source)
        if labels is not None and "labels" in arrays:
            _check_labels(self.source, arrays["labels"], labels, path)
        elif not ("names" in arrays and names_of(self.source)):
            logger.warning(
                "the order of %s cannot be checked: it has neither names nor labels to "
                "compare with %r. jax-rcl prepare join writes both.",
                *(path, self.source),
            )
        check_finite(found, names_of(self.source), path)
        checked = None if self.labels == "meant" else labels
        if checked is not None and _are_labels(found, checked):
            raise ValueError(
                f"the prior of {path} is the labels of {self.source!r} in another "
                f"form: its rows, or columns of two values, determine the label of a "
                f"record. Training on it is supervised. Use another prior, or write "
                f"WithPrior(..., labels='meant') if this is meant."
            )
        return found


@dataclasses.dataclass(frozen=True)
@ranged
class WithKeywords(Informed):
    """A source that gives words for its records, such as Emoji, each word as one bit.

    `prior` is float32 [p] of zeros and ones, one for each word that at least `least`
    records have, in alphabetic order (`words`). A record with none of them has a row of
    zeros, and a kernel sees all such records as equal; `least` 1 leaves none.
    Words are not the class, but may reveal it: every flag of Emoji has the word "flag",
    and all flags are one class. So this is weak supervision.

    Attributes:
      source: with `keywords`, all of it, as other records have other words.
    """

    source: Source
    least: Count = 2

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """What each bit of the prior stands for."""
        keywords = self.keywords
        if not keywords:
            raise ValueError(
                f"WithKeywords needs a source with `keywords`, such as Emoji; "
                f"{self.source!r} gives none. Use WithPrior for a file of attributes."
            )
        counts = Counter(word for own in keywords for word in set(own))
        words = sorted(word for word, count in counts.items() if count >= self.least)
        if not words:
            most = max(counts.values(), default=1)
            raise ValueError(
                f"WithKeywords.least is {self.least}, but no word has more than {most} "
                f"of the {len(self)} records of {self.source!r}; write {most} or less."
            )
        return tuple(words)

    @functools.cached_property
    def priors(self) -> Float32[np.ndarray, "m p"]:
        place = {word: j for j, word in enumerate(self.words)}
        bits = np.zeros((len(self), len(place)), np.float32)
        for i, own in enumerate(self.keywords):
            bits[i, [place[word] for word in own if word in place]] = 1
        return bits


@dataclasses.dataclass(frozen=True)
@ranged
class WithRandomBits(Informed):
    """A source, each record with random bits that say nothing about it: a control.

    Whatever a method gains from this prior, it gains by chance or by mistake. Bit j of
    record i is 1 if word i · bits + j of a Philox generator, uniform in [0, 2^64), lies
    below share · 2^64: the same for ever, whatever the source and its size.
    """

    source: Source
    bits: Count = 64
    share: Held = 0.5
    seed: Seed = 0

    @functools.cached_property
    def priors(self) -> Float32[np.ndarray, "m p"]:
        # `records.permutation` never reaches these counters: the bits of a record must
        # not depend on when it is seen.
        words = np.random.Philox(key=self.seed, counter=[0, 0, 1, 0])
        limit = np.uint64(int(self.share * 2**64))
        drawn = np.empty((len(self), self.bits), np.float32)
        for rows in chunks(len(drawn)):
            part = drawn[rows]
            part[:] = words.random_raw(part.size).reshape(part.shape) < limit
        return drawn


# What is compared with the source.


def _check_names(source: Source, found: tuple[str, ...], path: Path) -> None:
    """Compares the names of a file with those of a source that has names."""
    own = names_of(source)
    if not own or found == own:
        return
    pairs = itertools.zip_longest(found, own, fillvalue="missing")
    first, (theirs, ours) = next((i, x) for i, x in enumerate(pairs) if x[0] != x[1])
    raise ValueError(
        f"the names in {path} are not those of {source!r} in this order: the first to "
        f"differ is record {first}, {theirs!r} in the file and {ours!r} in the "
        f"source. Put the rows in the order of the source: "
        f"jax-rcl prepare join --features={path} --config=FILE.py --out=FILE.npz"
    )


def _check_labels(
    source: Source,
    found: Shaped[np.ndarray, "..."],
    own: Shaped[np.ndarray, "m ..."],
    path: Path,
) -> None:
    """Compares the labels of a file with labels or targets; NaN equals NaN."""
    if found.shape == (len(own), 1) and own.ndim == 1:
        found = found[:, 0]
    if found.shape != own.shape or found.dtype.kind not in "biuf":
        raise ValueError(
            f"'labels' of {path} are {found.dtype} {list(found.shape)}, those of "
            f"{source!r} {own.dtype} {list(own.shape)}; write the same, or no labels."
        )
    a, b = found.astype(np.float64), own.astype(np.float64)
    differ = (a != b) & ~(np.isnan(a) & np.isnan(b))
    wrong = np.flatnonzero(differ.reshape(len(own), -1).any(axis=1))
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"{len(wrong)} of {len(own)} labels in {path} are not those of {source!r}, "
            f"first record {i}: {found[i].tolist()} in the file and {own[i].tolist()} "
            f"in the source. The rows are in another order or of other records; if the "
            f"file has names, jax-rcl prepare join puts them right."
        )


def _are_labels(
    rows: Float32[np.ndarray, "m p"], labels: Shaped[np.ndarray, "m ..."]
) -> bool:
    """Whether a prior is the labels, or targets, in another form."""
    if labels.ndim == 2:
        missing = np.isnan(labels)
        if rows.shape == labels.shape and not missing.all():
            if ((rows == labels) | missing).all():
                return True
        filled = np.nan_to_num(labels, nan=-1)
        labels = np.unique(filled, axis=0, return_inverse=True)[1]
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    if not 1 < len(first) < len(rows):  # no two records share a label, or all do
        return False
    return (
        _one_row_for_each_class(rows, first, codes)
        or _few_rows_of_one_class_each(rows, codes)
        or _column_for_each(rows, first, codes)
    )


def _one_row_for_each_class(
    rows: Float32[np.ndarray, "m p"],
    first: Integer[np.ndarray, " k"],
    codes: Integer[np.ndarray, " m"],
) -> bool:
    """Whether rows are equal, to a thousandth, in a class and differ between them."""
    like = rows[first]
    near = 1e-3 * np.abs(like).max(initial=0)
    # The check that ends early comes first: two records of a class differ.
    for part in chunks(len(rows)):
        if (np.abs(rows[part] - like[codes[part]]) > near).any():
            return False
    apart = np.abs(like[:, None] - like[None]).max(axis=2)
    return bool((apart[~np.eye(len(like), dtype=bool)] > 2 * near).all())


def _few_rows_of_one_class_each(
    rows: Float32[np.ndarray, "m p"], codes: Integer[np.ndarray, " m"]
) -> bool:
    """Whether rows are shared by two records or more on average, of one class each."""
    class_of: dict[bytes, int] = {}
    for row, code in zip(rows, codes.tolist(), strict=True):
        # 0 and -0 are equal, and have different bits.
        if class_of.setdefault((row + 0.0).tobytes(), code) != code:
            return False
        if 2 * len(class_of) > len(rows):
            return False
    return True


def _column_for_each(
    rows: Float32[np.ndarray, "m p"],
    first: Integer[np.ndarray, " k"],
    codes: Integer[np.ndarray, " m"],
) -> bool:
    """Whether each class has a column of two values that tells it from all others."""
    low, high = rows[first].min(axis=0), rows[first].max(axis=0)
    two = low < high
    for part in chunks(len(rows)):
        two &= ((rows[part] == low) | (rows[part] == high)).all(axis=0)
        if not two.any():
            return False
    sizes = np.bincount(codes, minlength=len(first))
    counts = np.zeros((len(first), int(two.sum())), np.int64)
    for part in chunks(len(rows)):
        np.add.at(counts, codes[part], rows[part][:, two] == high[two])
    total = counts.sum(axis=0)
    inside = (counts == sizes[:, None]) & (total == sizes[:, None])
    outside = (counts == 0) & (total == len(rows) - sizes[:, None])
    return bool((inside | outside).any(axis=1).all())
