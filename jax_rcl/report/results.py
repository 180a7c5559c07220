"""How the numbers of evaluators are grouped and written, the same everywhere."""

import dataclasses
import re
from collections.abc import Mapping

_SHARE = re.compile(
    r"(?<![a-z])(top[-_]?\d+|acc|accuracy|balanced|recall|precision|f1|auc|auroc)(?![a-z])"
)


@dataclasses.dataclass(frozen=True)
class Group:
    """The numbers of one evaluator.

    Attributes:
      evaluator: its name in the run, such as `test/knn`.
      protocol: the line that says what the numbers mean; empty where nobody said.
      numbers: pairs of a name without the evaluator's and a number, as written; `top1`
        first, then other shares, then the rest.
    """

    evaluator: str
    protocol: str
    numbers: tuple[tuple[str, str], ...]

    @property
    def headline(self) -> tuple[str, str]:
        """The pair to show where there is room for one: `top1`, or a share if any."""
        return self.numbers[0]


def is_share(name: str) -> bool:
    """Whether the number of this name is a share in [0, 1], written in percent.

    Those with a word `top1` (or another number), `accuracy`, `acc`, `balanced`,
    `recall`, `precision`, `f1`, `auc` or `auroc` are. Other numbers (an alignment, a
    rank) have scales of their own.
    """
    return _SHARE.search(name.lower()) is not None


def written(name: str, value: float) -> str:
    """The number as a person reads it: `97.2 %` for a share, four digits otherwise."""
    # A share outside its range is no share, whatever its name: show what it is.
    percent = is_share(name) and 0 <= value <= 1
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"


def grouped(results: Mapping[str, float], protocols: Mapping[str, str]) -> list[Group]:
    """Sorts numbers by the evaluator they come from, in the order of `protocols`.

    Args:
      results: numbers by full name, `<evaluator>/<number>`.
      protocols: one line per evaluator. Of two names that fit, the longer one counts.

    Returns:
      One group per evaluator that has numbers; those of evaluators without a protocol
      come last, under what stands before the last slash of their names.
    """
    owned: dict[str, list[tuple[str, str]]] = {name: [] for name in protocols}
    for name, value in results.items():
        fitting = [owner for owner in protocols if name.startswith(owner + "/")]
        owner = max(fitting, key=len, default=name.rpartition("/")[0])
        short = name[len(owner) :].lstrip("/")
        owned.setdefault(owner, []).append((short, written(name, value)))
    for numbers in owned.values():
        numbers.sort(key=lambda pair: (pair[0] != "top1", not is_share(pair[0])))
    return [
        Group(owner, protocols.get(owner, ""), tuple(numbers))
        for owner, numbers in owned.items()
        if numbers
    ]
