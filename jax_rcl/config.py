"""Configs: trees of nodes, each checked against the class that it configures.

A config file writes `node(SupCon, temperature=0.2, ...)` where a program would write
`SupCon(temperature=0.2, ...)`. The node is an `ml_collections.ConfigDict` of the name
of the class and *all* its fields, so that every one of them can be changed in a
notebook (`config.objective.temperature = 0.5`), from the command line
(`--config.objective.temperature=0.5`) and read back from `config.json`; `build` then
makes the objects. A name or a value that the class does not take fails where it is
written.
"""

import dataclasses
import importlib.util
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from ml_collections import ConfigDict

from jax_rcl.core import (
    Augment,
    Evaluator,
    InitRule,
    Objective,
    Optimizer,
    Source,
)
from jax_rcl.fields import (
    ConfigError,
    class_at,
    fields_of,
    fitted,
    hint_of,
    read,
    short,
    suggest,
    unknown,
)

CLASS = "class"
"""Key of a node that holds `module:name` of the class it configures."""

MOVED = {
    f"jax_rcl.transfer:{name}": f"jax_rcl.imports:{name}"
    for name in ("ImportResNet", "ImportMoCo", "ImportUniformity")
}
"""Where classes are that configs of before name elsewhere."""

OF_BEST = "best/"
"""Begins the names of the numbers of a run's best state."""


@dataclasses.dataclass(frozen=True)
class Best:
    """Which of the states that a run goes through is its best one.

    Whenever the evaluator of `monitor` has run, the state is compared with the best so
    far; of equal ones the earlier stays. Let the evaluator look at examples that were
    held out for this: the best of many numbers on a test set flatters what it measures.

    Attributes:
      monitor: a number of an evaluator, `<evaluator>/<number>`, such as `probe/top1`.
        That there is such a number shows when the evaluator has run for the first time.
      mode: whether it is to be high or low.
    """

    monitor: str
    mode: Literal["max", "min"] = "max"

    def __post_init__(self) -> None:
        """Checks the form."""
        if not all(self.monitor.rpartition("/")[::2]):
            raise ValueError(
                f"Best.monitor {self.monitor!r} must be <evaluator>/<number>, such as "
                "'probe/top1'."
            )

    def evaluator(self, names: Collection[str]) -> str:
        """Whose number `monitor` is: of the names that fit, the longest.

        Raises:
          ConfigError: none of them does.
        """
        fitting = [name for name in names if self.monitor.startswith(f"{name}/")]
        if not fitting:
            start = f"best.monitor is {self.monitor!r}, but there is no evaluator"
            raise ConfigError(unknown(start, self.monitor.rpartition("/")[0], names))
        return max(fitting, key=len)

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether a number beats the best so far; one that is not finite never does."""
        if than is None or not math.isfinite(value):
            return math.isfinite(value)
        return value > than if self.mode == "max" else value < than


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that determines a run: with the seed, all its numbers.

    Attributes:
      objective: the method, with its networks.
      source: what it is trained on.
      augment: makes what the objective reads out of what the source gives.
      optimizer: moves `Variables.params`.
      batch_size: examples in a global batch, over all devices and processes.
      epochs: passes over the source; the remainder of a pass that does not fill a batch
        is dropped.
      steps: number of updates, in place of `epochs`; 0 trains nothing: evaluators look
        at what `init_from` brought, and the checkpoint holds it.
      seed: of initialisation, data order and augmentation.
      init_from: applied in order to the freshly initialised variables.
      evaluators: by the name that prefixes their numbers.
      log_every: steps between logged training metrics.
      save_every: steps between checkpoints; the last step is always saved.
      keep: newest checkpoints that are kept.
      best: by which number one more checkpoint is kept, that of the best state;
        evaluators run on it at the end, too, and what they find there is named
        `best/<evaluator>/<number>`.
      resident: whether the data set is laid out in device memory once, as uint8, and
        the host sends indices; "auto" where it takes less than a third of the memory.
      steps_per_call: updates between two touches by the host. On a CPU leave it at 1:
        convolutions inside a loop are several times slower there. On a GPU or TPU
        measure with `python -m jax_rcl.bench`.
      threads: that read and decode examples when the data set is not resident.
    """

    objective: Objective
    source: Source
    augment: Augment
    optimizer: Optimizer
    batch_size: int
    epochs: int | None = None
    steps: int | None = None
    seed: int = 0
    init_from: tuple[InitRule, ...] = ()
    evaluators: Mapping[str, Evaluator] = dataclasses.field(default_factory=dict)
    log_every: int = 50
    save_every: int = 1000
    keep: int = 2
    best: Best | None = None
    resident: Literal["auto", "always", "never"] = "auto"
    steps_per_call: int = 1
    threads: int = 8

    def __post_init__(self) -> None:
        """Checks what can be known without data, devices or networks."""
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"give either epochs or steps; got epochs={self.epochs} and "
                f"steps={self.steps}."
            )
        counts = ("batch_size", "epochs", "steps", "log_every", "save_every", "keep")
        for name in (*counts, "steps_per_call", "threads"):
            value = getattr(self, name)
            least = 0 if name == "steps" else 1
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}; got {value}.")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative; got {self.seed}.")


# Writing a config.


def node(cls: type, *args: Any, **fields: Any) -> ConfigDict:
    """A config of `cls`: its name and every field, those not given at their defaults.

    Args:
      cls: a dataclass, such as a method, a source or a flax.linen module.
      *args: values of its first fields, in order.
      **fields: values of fields by name; values are plain, nodes, or tuples, lists and
        dicts of them.

    Raises:
      ConfigError: a field that `cls` does not have, a value of the wrong type, or a
        field without default that is not given.
    """
    known = fields_of(cls)
    if len(args) > len(known):
        raise ConfigError(f"{cls.__name__} has {len(known)} fields; got {len(args)}.")
    fields = dict(zip(known, args, strict=False)) | fields
    for name in fields:
        if name not in known:
            raise ConfigError(unknown(f"{cls.__name__} has no field", name, known))
    values: dict[str, Any] = {CLASS: f"{cls.__module__}:{cls.__qualname__}"}
    for name, field in known.items():
        if name in fields:
            value = fields[name]
            if not _holds_node(value):
                value = fitted(value, hint_of(cls, field), f"{cls.__name__}.{name}")
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            hint = hint_of(cls, field)
            wanted = getattr(hint, "__name__", str(hint).replace("typing.", ""))
            raise ConfigError(
                f"{cls.__name__} needs a value for '{name}': write "
                f"node({cls.__name__}, {name}=…), {wanted}."
            )
        values[name] = _stored(value)
    # Not type safe: a field may hold None or a number, which ConfigDict would refuse;
    # the types are those of the class and are checked by `override` and `build`.
    return ConfigDict(values, type_safe=False).lock()


def parse(arg: str, **defaults: Any) -> SimpleNamespace:
    """Options of a config file: `--config=file.py:classes=100,epochs=5`.

    Args:
      arg: what follows the colon, `name=value,name=value`.
      **defaults: every option with its default, whose type a value must have; a tuple
        of strings lists all choices, the default first.

    Returns:
      A value for each option, and `given`, the names of those that `arg` has.

    Raises:
      ConfigError: an unknown option, a value of another type, or none of the choices.
    """
    given = set()
    choices = {k: v for k, v in defaults.items() if isinstance(v, tuple)}
    options = defaults | {name: values[0] for name, values in choices.items()}
    for item in filter(None, arg.split(",")):
        name, equals, text = item.partition("=")
        if name not in options:
            raise ConfigError(unknown("this config has no option", name, defaults))
        if not equals:
            raise ConfigError(f"option '{name}' needs a value: {name}=…")
        hint = type(options[name])
        options[name] = fitted(read(text, hint), hint, f"option '{name}'")
        if text not in choices.get(name, (text,)):
            known = choices[name]
            raise ConfigError(unknown(f"option '{name}' has no value", text, known))
        given.add(name)
    return SimpleNamespace(**options, given=frozenset(given))


def only_with(options: SimpleNamespace, fits: bool, what: str, *names: str) -> None:
    """Refuses options that were given and would do nothing.

    Args:
      options: of `parse`.
      fits: whether they do something.
      what: they are for, such as `negatives=patch`.
      *names: of the options.

    Raises:
      ConfigError: `fits` is False and one of them was given.
    """
    for name in names:
        if not fits and name in options.given:
            raise ConfigError(
                f"option '{name}' does nothing here: it is for {what}. Write that, or "
                f"leave '{name}' away."
            )


# Changing one.


def override(config: ConfigDict, path: str, text: str) -> None:
    """Sets one field, as `--config.<path>=<text>` does, checked against its class.

    Args:
      config: changed in place.
      path: such as `objective.temperature` or `augment.operation.operations[0].size`.
      text: the value as Python writes it, or a bare string.

    Raises:
      ConfigError: no such field, or a value of another type.
    """
    holder: Any = config
    names = re.findall(r"[^.\[\]]+|\[\d+\]", path)
    for place, name in enumerate(names):
        last = place == len(names) - 1
        if name.startswith("["):
            index = int(name[1:-1])
            if not isinstance(holder, tuple | list) or index >= len(holder):
                raise ConfigError(f"--config.{path}: there is no {name}.")
            if last:
                raise ConfigError(
                    f"--config.{path}: name the field, as in {path}.size."
                )
            holder = holder[index]
            continue
        if not isinstance(holder, ConfigDict) or name == CLASS or name not in holder:
            known = [key for key in _keys(holder) if key != CLASS]
            raise ConfigError(unknown(f"--config.{path}: there is no", name, known))
        if not last:
            holder = holder[name]
            continue
        hint = _hint_in(holder, name)
        value = fitted(read(text, hint), hint, path, old=_plain(holder[name]))
        with holder.unlocked():
            holder[name] = _stored(value)


def load(argument: str, overrides: Iterable[tuple[str, str]] = ()) -> ConfigDict:
    """The config of `file.py` or `file.py:options`, with overrides applied in order.

    Raises:
      ConfigError: no such file, no `get_config` in it, or what that and the overrides
        raise.
    """
    file, _, arg = argument.partition(":")
    if not Path(file).is_file():
        near = sorted(str(p) for p in Path(file).parent.glob("*.py"))
        raise ConfigError(f"there is no config file {file}.{suggest(file, near)}")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)  # pyright: ignore[reportArgumentType] a .py file has a spec
    spec.loader.exec_module(module)  # pyright: ignore[reportOptionalMemberAccess] and that a loader
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{file} defines no get_config(arg='').")
    try:
        config = module.get_config(arg)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:  # of a file that it looks into
        raise ConfigError(f"{file}: {error}") from error
    for path, text in overrides:
        override(config, path, text)
    return config


# Making the objects.


def build(config: Any, path: str = "") -> Any:
    """Makes the object that a node describes, its parts first.

    Only classes of jax_rcl and of modules that the program has already imported are
    built, so that a `config.json` from somewhere else cannot run code of its choice.

    Raises:
      ConfigError: an unknown class or field, a value of the wrong type, or one that the
        class refuses; the message starts with the path of the node.
    """
    if isinstance(config, Mapping | ConfigDict):
        parts = {key: build(config[key], _join(path, key)) for key in _keys(config)}
        if CLASS not in parts:
            return parts
        cls = class_at(str(parts.pop(CLASS)), path)
        known = fields_of(cls)
        for name, value in parts.items():
            if name not in known:
                where = f"{path or 'config'}: {cls.__name__} has no field"
                raise ConfigError(unknown(where, name, known))
            parts[name] = fitted(value, hint_of(cls, known[name]), _join(path, name))
        try:
            return cls(**parts)
        except (ValueError, TypeError, OSError) as error:
            raise ConfigError(f"{path or cls.__name__}: {error}") from error
    if isinstance(config, tuple | list):
        return tuple(build(item, f"{path}[{i}]") for i, item in enumerate(config))
    return config


def to_json(config: ConfigDict) -> str:
    """The config as JSON text, with sorted keys and two spaces of indentation."""
    return json.dumps(_plain(config), indent=2, sort_keys=True)


def from_json(text: str) -> ConfigDict:
    """The config that `to_json` wrote: `build` makes equal objects of both.

    Classes that have moved since are named where they are now.

    Raises:
      ValueError: the text is no JSON object.
    """

    def moved(node: dict[str, Any]) -> dict[str, Any]:
        name = str(node.get(CLASS))
        return {**node, CLASS: MOVED[name]} if name in MOVED else node

    values = json.loads(text, object_hook=moved)
    if not isinstance(values, dict):
        raise ValueError(f"a config is a JSON object; got {short(values)}.")
    return _stored(values)


def completed(config: Any) -> Any:
    """A config with the fields that its classes have gained, at their defaults."""
    if isinstance(config, tuple):
        return tuple(completed(item) for item in config)
    if not isinstance(config, ConfigDict):
        return config
    values = {key: completed(config[key]) for key in _keys(config)}
    if CLASS in values:
        for name, field in fields_of(class_at(str(values[CLASS]), "config")).items():
            if name not in values and field.default is not dataclasses.MISSING:
                values[name] = _stored(field.default)
    return ConfigDict(values, type_safe=False).lock()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Lines `path: old value -> new value`, one per field that differs."""
    old, new = _plain(old), _plain(new)
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        pairs = [(_join(path, k), old.get(k, "-"), new.get(k, "-")) for k in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        both = enumerate(zip(old, new, strict=True))
        pairs = [(f"{path}[{i}]", a, b) for i, (a, b) in both]
    else:
        return [] if old == new else [f"{path}: {short(old)} -> {short(new)}"]
    return [line for p, a, b in pairs for line in differences(a, b, p)]


# What the functions above share.


def _hint_in(holder: ConfigDict, name: str) -> Any:
    if CLASS not in holder:
        return Any
    cls = class_at(str(holder[CLASS]), name)
    return hint_of(cls, fields_of(cls)[name])


def _stored(value: Any) -> Any:
    if isinstance(value, ConfigDict):
        return value
    if isinstance(value, Mapping):
        items = {key: _stored(item) for key, item in value.items()}
        return ConfigDict(items, type_safe=False).lock()
    if isinstance(value, tuple | list):
        return tuple(_stored(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # A default that is an object, such as `when=Every(epochs=1)`.
        return node(
            type(value), **{n: getattr(value, n) for n in fields_of(type(value))}
        )
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, ConfigDict | Mapping):
        return {key: _plain(value[key]) for key in _keys(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _keys(holder: Any) -> list[str]:
    return list(holder.keys()) if isinstance(holder, ConfigDict | Mapping) else []


def _holds_node(value: Any) -> bool:
    if isinstance(value, ConfigDict):
        return True
    if isinstance(value, Mapping):
        return any(_holds_node(item) for item in value.values())
    return isinstance(value, tuple | list) and any(_holds_node(item) for item in value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
