"""What every source has: records, labels, a size, shares."""

import dataclasses
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from jax_rcl.core import Source
from jax_rcl.ranges import AtLeast, Within

Record = dict[str, Any]
"""One example: `image` uint8 [h, w, c]; where there are labels, `label` np.int32; where
they are confounded with something, `group` np.int32, which encodes both."""

Fraction = Annotated[float, Within(0, 1, "low", "such as 0.1 for a tenth")]
"""How much of something is kept, at least a little of it and at most all."""

Held = Annotated[float, Within(0, 1, "both", "such as 0.2 for a fifth")]
"""How much of something goes to one side of a split; both sides get some."""

Seed = Annotated[int, AtLeast(0)]
"""The seed of a draw."""

THREADS = 16
"""Threads that read records: they mostly wait for disks, or decode without the GIL."""


def permutation(count: int, seed: int, number: int) -> Int64[np.ndarray, " count"]:
    """Permutation `number` of 0 .. count - 1 under a seed; the same for ever.

    It sorts raw bits of the Philox generator, a function of key and counter alone. Bits
    of numpy's bit generators never change between versions; what its `Generator` makes
    of them (shuffles, normal numbers) may.
    """
    bits = np.random.Philox(key=seed, counter=[0, 0, 0, number]).random_raw(count)
    return np.argsort(bits, kind="stable")


def torch_permutation(count: int, seed: int) -> Int64[np.ndarray, " count"]:
    """What `torch.randperm(count)` gives on a CPU after `torch.manual_seed(seed)`.

    Fisher and Yates's shuffle from the front: place i is swapped with i + (w_i mod
    (count - i)), w_i being raw words of the Mersenne twister seeded in [0, 2^32). The
    splits of many PyTorch repositories are drawn this way. Below 2e8 numbers only.
    """
    words = np.random.RandomState(seed).randint(0, 2**32, count, np.uint32)
    jumps = words % (count - np.arange(count))
    order = list(range(count))
    for place, jump in enumerate(jumps.tolist()):
        other = place + jump
        order[place], order[other] = order[other], order[place]
    return np.array(order, np.int64)


def balanced_share(
    labels: Int32[np.ndarray, " m"], fraction: float, seed: int
) -> Int64[np.ndarray, " s"]:
    """Places of a random share of every class, in ascending order.

    A class of c examples gives round(fraction · c) of them, but at least one.
    """
    return draw_of_each(labels, lambda c: max(1, round(fraction * c)), seed)


def draw_of_each(
    labels: Int32[np.ndarray, " m"], kept: Callable[[int], int], seed: int
) -> Int64[np.ndarray, " s"]:
    """Places of kept(c) random examples of each class of c, in ascending order."""
    parts = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = permutation(len(members), seed, int(label))
        parts.append(members[order[: kept(len(members))]])
    return np.sort(np.concatenate(parts))


def labels_of(source: Source) -> Int32[np.ndarray, " m"]:
    """The label of every record; ValueError if there are none.

    Sources of this package give them as `all_labels`; of others every record is read.
    """
    return _of_every_record(source, "label")


def known_labels(source: Source) -> Int32[np.ndarray, " m"] | None:
    """The label of every record, if neither the source nor one inside must be read."""
    inner: Any = source
    while inner is not None:
        # Looked at, not evaluated: a wrapper asks the source inside.
        if inspect.getattr_static(inner, "all_labels", None) is None:
            return None
        inner = getattr(inner, "source", None)
    labels = getattr(source, "all_labels", None)
    return None if labels is None else np.asarray(labels, np.int32)


def stored_bytes(source: Source, index: int) -> bytes | None:
    """Record `index` as it lies in a file or in memory; None where none is known.

    It is not decoded, which not all versions of a library do alike, and nothing is
    drawn. Sources of this package give it as `stored(index)`.
    """
    stored = getattr(source, "stored", None)
    return None if stored is None else stored(index)


def groups_of(source: Source) -> Int32[np.ndarray, " m"]:
    """The group of every record, like `labels_of`."""
    return _of_every_record(source, "group")


def group_names_of(source: Source) -> tuple[str, ...]:
    """What each group means; empty where the source does not say."""
    return getattr(source, "group_names", ())


def names_of(source: Source) -> tuple[str, ...]:
    """The name of every record, in order; empty where the source does not say.

    Names are paths such as `cat/tom.jpeg` where records are files. Sources of this
    package give them as `names`.
    """
    fields = dataclasses.fields(source) if dataclasses.is_dataclass(source) else ()
    # A setting of this name, as `Npz` and `Grouped` have, is of the classes.
    if any(field.name == "names" for field in fields):
        return ()
    return getattr(source, "names", ())


def _of_every_record(source: Source, key: str) -> Int32[np.ndarray, " m"]:
    values = getattr(source, f"all_{key}s", None)
    if values is None:
        if key not in source[0]:
            raise ValueError(f"the records of {source!r} have no {key!r}.")
        with ThreadPoolExecutor(THREADS) as pool:
            values = list(pool.map(lambda i: source[i][key], range(len(source))))
    found = np.asarray(values, np.int32)
    if found.ndim != 1:
        raise ValueError(
            f"'{key}' of the records of {source!r} is {list(found.shape[1:])}; it must "
            f"be one number each: squeeze it in the source."
        )
    return found


def check_labels(source: Source) -> None:
    """Raises ValueError unless every label is one of the classes that are named."""
    check_codes(labels_of(source), len(source.class_names), repr(source))


def check_codes(codes: Int32[np.ndarray, " m"], k: int, where: str) -> None:
    """Raises ValueError unless the labels of the records of something are in [0, k)."""
    wrong = np.flatnonzero((codes < 0) | (codes >= k))
    if len(wrong):
        raise ValueError(
            f"record {wrong[0]} of {where} has label {codes[wrong[0]]}; labels must be "
            f"in [0, {k}), as there are {k} class names ({len(wrong)} records break "
            f"this). Correct the labels, or wrap the source in Relabel."
        )


def nbytes(source: Source) -> int:
    """Bytes of all records as arrays: those of record 0, times their number."""
    if not len(source):
        return 0
    return len(source) * sum(np.asarray(value).nbytes for value in source[0].values())


# Any, as a check that it is a Source would look for data that need not be there.
def check_drawn_last(source: Any) -> None:
    """Raises ValueError if a source inside this one draws its records at every step.

    Such a one has a method `draw_record`, which those around it do not call.
    """
    inner = getattr(source, "source", None)
    while inner is not None:
        if hasattr(inner, "draw_record"):
            name = type(inner).__name__
            raise ValueError(
                f"{name} inside {type(source).__name__} would draw the same record at "
                f"every step; put {name} around all other sources."
            )
        inner = getattr(inner, "source", None)


def fill(
    source: Source,
    indices: Int64[np.ndarray, " s"],
    into: dict[str, Shaped[np.ndarray, "..."]],
    first: int = 0,
    read: Callable[[int, int], Record] | None = None,
) -> None:
    """Reads records into rows `first`, `first` + 1, … of arrays that they must fit.

    A record is source[index], or read(index, row) where this is given.
    """
    for place, index in enumerate(indices.tolist(), start=first):
        record = source[index] if read is None else read(index, place)
        for key, rows in into.items():
            value = np.asarray(record[key])
            if value.shape != rows.shape[1:] or value.dtype != rows.dtype:
                raise ValueError(
                    f"'{key}' of record {index} of {source!r} is {value.dtype} "
                    f"{list(value.shape)}, of record 0 {rows.dtype} "
                    f"{list(rows.shape[1:])}: all records must agree. Resize images of "
                    f"different sizes in the source, or put RandomCrops, Squares or "
                    f"Framed around it."
                )
            rows[place] = value


def empty_rows(record: Record, count: int) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Arrays for `count` records like this one, not filled."""
    like = {key: np.asarray(value) for key, value in record.items()}
    return {key: np.empty((count, *v.shape), v.dtype) for key, v in like.items()}
