"""What is stored of the data with every checkpoint, and what has changed since."""

import zlib
from collections.abc import Mapping
from typing import Any

from jax_rcl.config.experiment import Experiment
from jax_rcl.core import Source
from jax_rcl.data import records
from jax_rcl.train.plan import sources_of


def describe_data(experiment: Experiment) -> dict[str, Any]:
    """How many records there are, and a checksum of their names where they have some.

    Of the training source all names of classes, of those of evaluators a checksum. No
    record is read.
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
        "class_names": _checksum(source.class_names),
        "names": _checksum(names) if names else None,
    }


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
    words = {"class_names": "classes have other names", "names": "other files"}
    return [text for key, text in words.items() if then[key] != now[key]]
