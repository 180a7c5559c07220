"""Total renaming of weights: every array is used once, every path is filled once.

A rule says in both directions where an array goes and how its axes are laid out:

    Rule("layer{i}.{j}.conv1.weight", "params/stage{i}_block{j+1}/conv1/kernel", CONV)

`{i}` stands for a number, on either side with a constant added or subtracted. A family
of checkpoints is a table of rules; `import_arrays` and `export_arrays` do the rest, and
are exact inverses.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

PREFIX = "module."
"""What PyTorch's data parallelism puts before every name."""

Shape = tuple[int, ...]
Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one array of the source is laid out in one or several targets.

    Attributes:
      name: for messages.
      forward: (array, shapes of the targets) to the arrays of the targets.
      backward: its inverse.
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

    def __post_init__(self) -> None:
        wanted = _fields(self.source)
        for target in self.targets:
            if _fields(target) != wanted:
                raise ValueError(
                    f"rule {self.source!r} -> {target!r}: both sides must mention the "
                    f"same numbers; got {sorted(wanted)} and {sorted(_fields(target))}."
                )

    @property
    def targets(self) -> tuple[str, ...]:
        """The target or targets, as a tuple."""
        return (self.target,) if isinstance(self.target, str) else self.target


def head_rules(collection: str = "params/", /, **layers: str) -> tuple[Rule, ...]:
    """Rules of linear layers: for each name here, `out="fc"`, the one in PyTorch."""
    return tuple(
        Rule(f"{source}.{leaf}", f"{collection}{layer}/{ours}", layout)
        for layer, source in layers.items()
        for leaf, ours, layout in (
            ("weight", "kernel", LINEAR),
            ("bias", "bias", SAME),
        )
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


def rename(
    source: Mapping[str, np.ndarray],
    rules: Sequence[Rule],
    shapes: Mapping[str, Shape],
    *,
    ignore: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """One array per path of `shapes`, of that shape and the source's type.

    Args:
      source: arrays by their names in the other library.
      rules: each name matches exactly one.
      shapes: of every array that our network has, by path.
      ignore: shell patterns (`fc.*`) of names that no rule sees; each matches some.

    Raises:
      WeightsMismatch: if an array is left over (-), a path is not filled (+) or a shape
        disagrees (!); the message has all of them, with shapes.
      ValueError: if two rules claim a name or a path, or a pattern ignores nothing.
    """
    kept = _without(source, ignore)
    filled: dict[str, np.ndarray] = {}
    unused, wrong = [], []
    for name, array in kept.items():
        match = _only_match(name, [(rule, rule.source) for rule in rules])
        if match is None:
            unused.append(name)
            continue
        rule, numbers = match
        paths = tuple(_render(target, numbers) for target in rule.targets)
        # A layout may need the target's shape; a name without one is left over.
        if not all(path in shapes for path in paths):
            unused.append(name)
            continue
        targets = {path: tuple(shapes[path]) for path in paths}
        parts, fault = _laid_out(rule.layout, array, targets)
        if fault:
            wrong.append(f"! {name} {array.shape} -> {fault}")
        for path, part in zip(paths, parts, strict=True):
            if path in filled:
                raise ValueError(f"two arrays go to {path}; the second is {name}.")
            filled[path] = part
    missing = [path for path in shapes if path not in filled]
    if unused or missing or wrong:
        lines = [f"- {name} {kept[name].shape}" for name in unused]
        lines += [f"+ {path} {tuple(shapes[path])}" for path in missing] + wrong
        raise WeightsMismatch(
            f"the weights do not fit the network: {len(unused)} array(s) of the file "
            f"unused (-), {len(missing)} of the network not filled (+), {len(wrong)} "
            f"of another shape (!). Is it the right architecture, or do some belong in "
            f"`ignore`?\n" + "\n".join(lines)
        )
    return filled


def rename_back(
    target: Mapping[str, np.ndarray], rules: Sequence[Rule]
) -> dict[str, np.ndarray]:
    """Another library's arrays from ours by path; the inverse of `rename`.

    Raises:
      WeightsMismatch: if an array matches no rule (+), or one of several that make up
        an array of the other library is absent (-).
      ValueError: if two rules claim a path.
    """
    patterns = [(rule, path) for rule in rules for path in rule.targets]
    named: dict[str, np.ndarray] = {}
    lines = []
    for path, array in target.items():
        match = _only_match(path, patterns)
        if match is None:
            lines.append(f"+ {path} {array.shape}")
            continue
        rule, numbers = match
        name = _render(rule.source, numbers)
        paths = [_render(pattern, numbers) for pattern in rule.targets]
        absent = [part for part in paths if part not in target]
        if absent:
            lines.append(f"- {name}: needs {', '.join(absent)} beside {path}")
        elif path == paths[0]:
            if name in named:
                raise ValueError(f"two arrays go to {name}; the second is {path}.")
            named[name] = rule.layout.backward(tuple(target[part] for part in paths))
    if lines:
        raise WeightsMismatch(
            "the variables do not fit the rules: no rule for (+), or parts absent for "
            "(-).\n" + "\n".join(lines)
        )
    return named


def import_arrays(
    state: Mapping[str, np.ndarray],
    rules: Sequence[Rule],
    shapes: Mapping[str, Any],
    *,
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """A tree like `shapes`, of its shapes and types, from another library's arrays.

    Args:
      state: arrays by their names there.
      rules: as for `rename`.
      shapes: nested dicts with arrays, or what has their shapes and types, as leaves.
      left_out: patterns of names that nothing reads, of which some may be absent;
        PyTorch's counts of batches are always left out.
    """
    present = [
        pattern
        for pattern in (*left_out, "*.num_batches_tracked")
        if fnmatch.filter(state, pattern)
    ]
    wanted = flatten(shapes)
    sizes = {path: x.shape for path, x in wanted.items()}
    found = rename(state, rules, sizes, ignore=present)
    return unflatten({path: found[path].astype(x.dtype) for path, x in wanted.items()})


def export_arrays(
    variables: Mapping[str, Any], rules: Sequence[Rule], prefix: str = ""
) -> dict[str, np.ndarray]:
    """A state dict, `prefix` before each name: the inverse of `import_arrays`.

    Bit for bit, and of the types that the variables have.
    """
    flat = {path: np.asarray(x) for path, x in flatten(variables).items()}
    named = rename_back(flat, rules)
    # Not `ascontiguousarray`, which makes a vector of a scalar.
    return {f"{prefix}{name}": np.asarray(x, order="C") for name, x in named.items()}


def without_prefix(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state by names without what PyTorch's data parallelism puts before them."""
    return {name.removeprefix(PREFIX): array for name, array in state.items()}


def places(source: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> dict[str, Shape]:
    """Shapes by path that a network would need for these arrays to fill it.

    Names without a rule are left out, and so are arrays that a layout cannot take.
    """
    shapes: dict[str, Shape] = {}
    for name, array in source.items():
        match = _only_match(name, [(rule, rule.source) for rule in rules])
        if match is None:
            continue
        rule, numbers = match
        try:
            parts = rule.layout.forward(array, ())
        except ValueError:
            continue
        for target, part in zip(rule.targets, parts, strict=True):
            shapes[_render(target, numbers)] = part.shape
    return shapes


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts to one dict, with names joined by "/"."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{path}": leaf for path, leaf in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


# Templates: text with {name}, {name+1} or {name-1}, each a whole number.

_FIELD = re.compile(r"\{([a-z]+)([+-]\d+)?\}")


def _fields(template: str) -> set[str]:
    return {match[1] for match in _FIELD.finditer(template)}


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
) -> tuple[Rule, dict[str, int]] | None:
    found = [(rule, _match(pattern, name)) for rule, pattern in patterns]
    matches = [(rule, numbers) for rule, numbers in found if numbers is not None]
    if len(matches) > 1:
        raise ValueError(
            f"{name} is claimed by {len(matches)} rules: "
            + ", ".join(f"{rule.source} -> {rule.target}" for rule, _ in matches)
            + ". Make their patterns disjoint."
        )
    return matches[0] if matches else None


def _without(
    source: Mapping[str, np.ndarray], ignore: Sequence[str]
) -> dict[str, np.ndarray]:
    for pattern in ignore:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in source):
            raise ValueError(
                f"ignore pattern {pattern!r} matches no name, such as "
                f"{next(iter(source), 'none')!r}; remove it or correct it."
            )
    return {
        name: array
        for name, array in source.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in ignore)
    }


def _laid_out(
    layout: Layout, array: np.ndarray, targets: Mapping[str, Shape]
) -> tuple[Arrays, str | None]:
    """The parts for `targets`, and what is wrong with them, if anything."""
    try:
        parts = layout.forward(array, tuple(targets.values()))
    except ValueError:
        # An array of another rank cannot be transposed or split.
        parts = (array,) * len(targets)
        got = "cannot be laid out so"
    else:
        if tuple(part.shape for part in parts) == tuple(targets.values()):
            return parts, None
        got = f"gives {', '.join(str(part.shape) for part in parts)}"
    wanted = ", ".join(f"{path} {shape}" for path, shape in targets.items())
    return parts, f"{wanted}: {layout.name} {got}"
