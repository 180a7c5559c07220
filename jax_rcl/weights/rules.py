"""Total renaming of weights: every array is used once, every path is filled once.

A rule says in both directions where an array goes and how its axes are laid out:

    Rule("layer{i}.{j}.conv1.weight", "params/stage{i}_block{j+1}/conv1/kernel", CONV)

A family of checkpoints is a table of rules; `import_arrays` and `export_arrays` do the
rest, and are exact inverses.
"""

import contextlib
import dataclasses
import fnmatch
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

logger = logging.getLogger(__name__)

PREFIX = "module."
"""What PyTorch's data parallelism puts before every name."""

WRAPPERS = (PREFIX, "_orig_mod.")
"""What that and PyTorch's compiler put before names, or after a first part of them."""

MOST = 20
"""Most lines of each side that an error lists."""

Shape = tuple[int, ...]
Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one array of the source is laid out in one or several targets.

    Attributes:
      forward: (array, shapes of the targets) to the arrays of the targets.
    """

    name: str
    forward: Callable[[np.ndarray, tuple[Shape, ...]], Arrays]
    backward: Callable[[Arrays], np.ndarray]


SAME = Layout("same", lambda x, _: (x,), lambda parts: parts[0])

CONV = Layout(
    "OIHW to HWIO",
    lambda x, _: (x.transpose(2, 3, 1, 0),),
    lambda parts: parts[0].transpose(3, 2, 0, 1),
)
"""A convolution: PyTorch's [out, in, h, w] to ours, [h, w, in, out]."""

LINEAR = Layout("OI to IO", lambda x, _: (x.T,), lambda parts: parts[0].T)
"""A matrix: PyTorch's [out, in] to ours, [in, out]."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where arrays of one kind go.

    Attributes:
      source: name in the other library; `{i}` matches a number without leading zeros.
      target: path in our variables, parts joined by "/"; several paths when the layout
        splits the array. `{i}` is that number, `{i+1}` the next one. Both sides must
        mention the same numbers, or a name could not be turned back.
    """

    source: str
    target: str | tuple[str, ...]
    layout: Layout = SAME

    @property
    def targets(self) -> tuple[str, ...]:
        """The target or targets, as a tuple."""
        return (self.target,) if isinstance(self.target, str) else self.target


def linear_rules(source: str, target: str) -> tuple[Rule, ...]:
    """Rules of a linear layer: its matrix and its bias."""
    return (
        Rule(f"{source}.weight", f"{target}/kernel", LINEAR),
        Rule(f"{source}.bias", f"{target}/bias"),
    )


def below(source: str, target: str, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Rules for names below `source` there and `target` here; "" stands for no name."""
    before, ours = f"{source}." if source else "", f"{target}/" if target else ""
    return tuple(
        dataclasses.replace(
            rule,
            source=f"{before}{rule.source}",
            target=tuple(f"{ours}{path}" for path in rule.targets),
        )
        for rule in rules
    )


class WeightsMismatch(ValueError):
    """Weights and a network do not fit; the message lists what is left over."""


def import_arrays(
    state: Mapping[str, np.ndarray],
    rules: Sequence[Rule],
    shapes: Mapping[str, Any],
    *,
    left_out: Sequence[str] = (),
    parts: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """A tree like `shapes`, of its shapes and types, from another library's arrays.

    Every name of `state` matches one rule, but for those that the shell patterns
    `left_out` match (`fc.*`) and PyTorch's counts of batches. `parts` has, for parts
    that may be asked for, by the first name of their paths, patterns of the names that
    are left out where `shapes` lacks the part.

    Raises:
      WeightsMismatch: if an array is left over (-), a path is not filled (+) or a shape
        disagrees (!); the message has all of them, with shapes.
      ValueError: if two rules claim a name or a path.
    """
    wanted = flatten(shapes)
    ignored = ["*.num_batches_tracked", *left_out]
    for part, patterns in (parts or {}).items():
        ignored += () if part in shapes else patterns
    kept = {
        name: array
        for name, array in state.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in ignored)
    }
    filled: dict[str, np.ndarray] = {}
    unused, wrong = [], []
    for name, array in kept.items():
        rule, paths = _destination(name, rules)
        # A layout may need the target's shape; a name without one is left over.
        if rule is None or not all(path in wanted for path in paths):
            unused.append(f"- {name} {array.shape}")
            continue
        sizes = tuple(tuple(wanted[path].shape) for path in paths)
        try:
            laid = rule.layout.forward(array, sizes)
            found = tuple(part.shape for part in laid)
            fault = "" if found == sizes else f"gives {', '.join(map(str, found))}"
        except ValueError:
            # An array of another rank cannot be transposed or split.
            laid, fault = (array,) * len(paths), "cannot be laid out so"
        if fault:
            goals = [f"{path} {size}" for path, size in zip(paths, sizes, strict=True)]
            goal = f"{', '.join(goals)}: {rule.layout.name} {fault}"
            wrong.append(f"! {name} {array.shape} -> {goal}")
        for path, part in zip(paths, laid, strict=True):
            if path in filled:
                raise ValueError(f"two arrays go to {path}; the second is {name}.")
            filled[path] = part
    missing = [f"+ {p} {tuple(x.shape)}" for p, x in wanted.items() if p not in filled]
    if unused or missing or wrong:
        sides = [line for side in (unused, missing, wrong) for line in _first(side)]
        raise WeightsMismatch(
            f"the weights do not fit the network: {len(unused)} array(s) of the file "
            f"unused (-), {len(missing)} of the network not filled (+), {len(wrong)} "
            f"of another shape (!). {_hint(unused, missing, wrong)}\n"
            + "\n".join(sides)
        )
    return unflatten({path: filled[path].astype(x.dtype) for path, x in wanted.items()})


def _first(lines: list[str]) -> list[str]:
    """The lines, or if they are many the first of them and how many there are."""
    more = len(lines) - MOST
    return lines if more <= 0 else [*lines[:MOST], f"{lines[0][0]} … {more} more"]


def _hint(unused: list[str], missing: list[str], wrong: list[str]) -> str:
    if not missing and not wrong:
        return (
            "Is it the right architecture? If the network lacks them on purpose, name "
            "them by `left_out`, shell patterns."
        )
    if unused and missing and not wrong:
        return (
            "Is it the right architecture? If names of the file have something before "
            "them that the rules do not know, say it by `prefix`."
        )
    return "Is it the right architecture?"


def export_arrays(
    variables: Mapping[str, Any], rules: Sequence[Rule], prefix: str = ""
) -> dict[str, np.ndarray]:
    """A state dict, `prefix` before each name: the exact inverse of `import_arrays`.

    Raises:
      WeightsMismatch: if an array matches no rule (+), or one of several that make up
        an array of the other library is absent (-).
      ValueError: if two rules claim a path.
    """
    ours = {path: np.asarray(x) for path, x in flatten(variables).items()}
    patterns = [(rule, path) for rule in rules for path in rule.targets]
    named: dict[str, np.ndarray] = {}
    lines = []
    for path, array in ours.items():
        rule, numbers = _only_match(path, patterns)
        if rule is None:
            lines.append(f"+ {path} {array.shape}")
            continue
        name = _render(rule.source, numbers)
        paths = [_render(pattern, numbers) for pattern in rule.targets]
        absent = [part for part in paths if part not in ours]
        if absent:
            lines.append(f"- {name}: needs {', '.join(absent)} beside {path}")
        elif path == paths[0]:
            if f"{prefix}{name}" in named:
                raise ValueError(f"two arrays go to {name}; the second is {path}.")
            whole = rule.layout.backward(tuple(ours[part] for part in paths))
            # Not `ascontiguousarray`, which makes a vector of a scalar.
            named[f"{prefix}{name}"] = np.asarray(whole, order="C")
    if lines:
        raise WeightsMismatch(
            "the variables do not fit the rules: no rule for (+), or parts absent for "
            "(-).\n" + "\n".join(lines)
        )
    return named


def require(
    state: Mapping[str, Any], starts: tuple[str, ...], of: str, hint: str
) -> None:
    """Raises WeightsMismatch if no name begins so: they are not those of `of`.

    The hint is a sentence on what else to try.
    """
    if not any(name.startswith(starts) for name in state):
        raise WeightsMismatch(
            f"no name begins with {' or '.join(map(repr, starts))}, as those of {of} "
            f"do; the first is {next(iter(state), 'none')!r}. {hint}"
        )


def without_prefix(
    state: Mapping[str, np.ndarray], anchors: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The state by names without what precedes those that the rules know.

    That is what PyTorch's data parallelism and compiler put before them (`WRAPPERS`);
    and what a model called the network in it, such as `backbone.`, which is found by
    `anchors`, names that every such network has. Arrays of others beside it are then
    left out, with a warning.

    Raises:
      WeightsMismatch: there are several such networks.
    """
    plain = {_unwrapped(name): array for name, array in state.items()}
    if len(plain) < len(state):
        plain = dict(state)  # two networks, one of which is wrapped
    found = {
        name.removesuffix(anchor)
        for name in plain
        for anchor in anchors
        if name == anchor or name.endswith(f".{anchor}")
    }
    if not found or "" in found:
        return plain
    if len(found) > 1:
        raise WeightsMismatch(
            f"the file holds {len(found)} networks, whose names begin with "
            f"{', '.join(map(repr, sorted(found)))}; say by `prefix` which one to take."
        )
    return below_prefix(plain, found.pop())


def below_prefix(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """What follows `prefix`; a warning counts the other arrays.

    Raises:
      WeightsMismatch: no name begins so.
    """
    kept = {k.removeprefix(prefix): x for k, x in state.items() if k.startswith(prefix)}
    if not kept:
        tops = sorted({name.partition(".")[0] for name in state})
        raise WeightsMismatch(
            f"no name begins with {prefix!r}; names begin with "
            f"{', '.join(map(repr, tops[:MOST]))}."
        )
    others = [name for name in state if not name.startswith(prefix)]
    if others:
        logger.warning(
            "%d array(s) whose names do not begin with %r are left out; first %s.",
            *(len(others), prefix, others[0]),
        )
    return kept


def _unwrapped(name: str) -> str:
    """A name without the `WRAPPERS` at its front, or inside of it the compiler's."""
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name.replace("._orig_mod.", ".")


def places(source: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> dict[str, Shape]:
    """Shapes by path that a network would need for these arrays to fill it.

    Names without a rule are left out, and so are arrays that a layout cannot take.
    """
    shapes: dict[str, Shape] = {}
    for name, array in source.items():
        rule, paths = _destination(name, rules)
        with contextlib.suppress(ValueError):
            parts = rule.layout.forward(array, ()) if rule else ()
            shapes |= {p: part.shape for p, part in zip(paths, parts, strict=True)}
    return shapes


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts to one dict, with names joined by "/"."""
    return traverse_util.flatten_dict(tree, sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    return traverse_util.unflatten_dict(flat, sep="/")


# Templates: text with {name}, {name+1} or {name-1}, each a whole number.

_FIELD = re.compile(r"\{([a-z]+)([+-]\d+)?\}")


def _render(template: str, numbers: Mapping[str, int]) -> str:
    return _FIELD.sub(lambda m: str(numbers[m[1]] + int(m[2] or 0)), template)


def _match(template: str, name: str) -> dict[str, int] | None:
    pattern, end = "", 0
    for field in _FIELD.finditer(template):
        pattern += re.escape(template[end : field.start()]) + r"(0|[1-9]\d*)"
        end = field.end()
    found = re.fullmatch(pattern + re.escape(template[end:]), name)
    if found is None:
        return None
    numbers: dict[str, int] = {}
    fields = _FIELD.finditer(template)
    for field, text in zip(fields, found.groups(), strict=True):
        value = int(text) - int(field[2] or 0)
        if value < 0 or numbers.setdefault(field[1], value) != value:
            return None
    return numbers


def _only_match(
    name: str, patterns: Sequence[tuple[Rule, str]]
) -> tuple[Rule | None, dict[str, int]]:
    found = [(rule, _match(pattern, name)) for rule, pattern in patterns]
    matches = [(rule, numbers) for rule, numbers in found if numbers is not None]
    if len(matches) > 1:
        raise ValueError(
            f"{name} is claimed by {len(matches)} rules: "
            + ", ".join(f"{rule.source} -> {rule.target}" for rule, _ in matches)
            + ". Make their patterns disjoint."
        )
    return matches[0] if matches else (None, {})


def _destination(
    name: str, rules: Sequence[Rule]
) -> tuple[Rule | None, tuple[str, ...]]:
    """The rule for a name of the other library, and where it goes."""
    rule, numbers = _only_match(name, [(rule, rule.source) for rule in rules])
    return rule, tuple(
        _render(path, numbers) for path in (rule.targets if rule else ())
    )
