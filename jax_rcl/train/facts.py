"""What is stored of the data with every checkpoint, and what has changed since.

Decoded pixels are not compared, as versions of a library decode a JPEG differently:
data may go from one machine to another with a run.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_rcl.config.experiment import Experiment
from jax_rcl.core import Source
from jax_rcl.data import records
from jax_rcl.data.folders import Tfds
from jax_rcl.train.plan import sources_of

SAMPLE = 16
"""How many records of a source are compared."""

MEASURED = "measured.json"
"""File of a workdir that says which data the numbers of each evaluator are of."""


def describe_data(experiment: Experiment) -> dict[str, Any]:
    """How many records there are, and checksums of what is known of them.

    Of the training source all names of classes, of those of evaluators a checksum. Only
    `SAMPLE` records of each source are read, and none is decoded.
    """
    tested = {
        name: [_describe(source) for source, _ in sources_of(evaluator)]
        for name, evaluator in experiment.evaluators.items()
    }
    classes = list(experiment.source.class_names)
    train = _describe(experiment.source) | {"classes": classes}
    return {"train": train, "evaluators": tested}


def _describe(source: Source) -> dict[str, Any]:
    names = records.names_of(source)
    return {
        "count": len(source),
        "omitted": getattr(_innermost(source), "omitted", 0),
        "class_names": _checksum(source.class_names),
        "names": _checksum(names) if names else None,
        "labels": _of_all(_labels(source)),
        "groups": _of_all(getattr(source, "all_groups", None)),
        "targets": _of_all(getattr(source, "all_targets", None)),
        "sample": [_record(source, row) for row in sample_rows(len(source))],
    }


def sample_rows(count: int) -> list[int]:
    """Which of so many records are looked at: at even distances, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(int)).tolist()


def _record(source: Source, row: int) -> int | None:
    """A checksum of a record as it is stored; None if that is not known."""
    try:
        found = records.stored_bytes(source, row)
    except OSError:  # which whoever needs the record will say
        return None
    return None if found is None else zlib.crc32(found)


def _innermost(source: Source) -> Any:
    inner: Any = source
    while hasattr(inner, "source"):
        inner = inner.source
    return inner


def _labels(source: Source) -> np.ndarray | None:
    """The labels of all records; None where every record had to be read for them."""
    inner = _innermost(source)
    # It gives them, and reads every record for it.
    return None if isinstance(inner, Tfds) else records.known_labels(source)


def _of_all(values: np.ndarray | None) -> int | None:
    return None if values is None else zlib.crc32(values.tobytes())


def is_known(description: Mapping[str, Any]) -> bool:
    """Whether a description tells the same data in another place from others."""
    sample = description.get("sample")
    return bool(sample) and None not in sample


def _checksum(names: tuple[str, ...]) -> int:
    return zlib.crc32("\n".join(names).encode(errors="surrogateescape"))


def changes_of(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words what differs between two descriptions of a source."""
    found = []
    if then["count"] != now["count"]:
        found.append(f"{now['count']} records now, {then['count']} then")
    before, after = then.get("classes", ()), now.get("classes", ())
    for word, one, other in (("new", after, before), ("gone", before, after)):
        names = [name for name in one if name not in other]
        if names:
            kind = "class" if len(names) == 1 else "classes"
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            found.append(f"{word} {kind} {', '.join(map(repr, names[:5]))}{more}")
    if found:
        return found
    words = {
        "class_names": "classes have other names",
        "names": "other files",
        "labels": "other labels",
        "groups": "other groups",
        "targets": "other targets",
    }
    both = {key: (then.get(key), now.get(key)) for key in words}
    found = [words[key] for key, pair in both.items() if _differ(*pair)]
    sample = zip(then.get("sample", ()), now.get("sample", ()), strict=False)
    others = sum(_differ(*pair) for pair in sample)
    # One may be a file that was damaged, and was replaced, as the error advises.
    if others >= min(2, now["count"]):
        found.append("other images")
    return found


def changes_of_all(
    then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> list[str]:
    """In words what differs between descriptions of the sources of an evaluator."""
    pairs = zip(then, now, strict=False)
    return list(dict.fromkeys(line for pair in pairs for line in changes_of(*pair)))


def _differ(then: int | None, now: int | None) -> bool:
    return then is not None and now is not None and then != now


# The data that numbers are of.


def remember_measured(workdir: Path, step: int, data: Mapping[str, Any]) -> None:
    """Stores that evaluators, by name, have run at a step on data of such descriptions.

    Write it before their numbers: these then are never taken for those of other data.
    """
    now = {name: {"step": step, "data": found} for name, found in data.items()}
    path = workdir / MEASURED
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(measured(workdir) | now, indent=1) + "\n")
    beside.replace(path)


def measured(workdir: Path) -> dict[str, Any]:
    """`step` and `data` of the last run of each evaluator that is known."""
    try:
        found = json.loads((workdir / MEASURED).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
