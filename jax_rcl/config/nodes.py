"""Configs: trees of nodes, each checked against the class that it configures.

A config file writes `node(SupCon, temperature=0.2, ...)` where a program would write
`SupCon(temperature=0.2, ...)`. The node is an `ml_collections.ConfigDict` of the class
and *all* its fields, so that each of them can be changed in a notebook
(`config.objective.temperature = 0.5`) or on the command line
(`--config.objective.temperature=0.5`), and read back from `config.json`; `build` then
makes the objects. A name or a value that the class does not take fails where it is
written.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jax_rcl.config.types import (
    ConfigError,
    class_at,
    default_of,
    fields_of,
    fitted,
    hint_of,
    name_of,
    short,
    unknown,
)
from jax_rcl.moved import class_path

CLASS = "class"
"""Key of a node that holds `module:name` of the class it configures."""

SAME = "same as"
"""Key of what stands for another place of the whole config; see `same`."""

Node = Any
"""A `ConfigDict` of a class; what its fields hold cannot be known statically."""

# Writing a config.


def node(cls: type, *args: Any, **fields: Any) -> Node:
    """A config of `cls`: its name and every field, at its default if not given.

    Values of fields are plain, nodes, or tuples, lists and dicts of them.

    Raises:
      ConfigError: an unknown field, a value of the wrong type or out of range, or a
        missing value of a field without default.
    """
    known = fields_of(cls)
    places = sum(not field.kw_only for field in known.values())
    if len(args) > places:
        raise ConfigError(
            f"{cls.__name__} has {places} fields that need no name; got {len(args)}."
        )
    positional = dict(zip(known, args, strict=False))
    for name in positional.keys() & fields.keys():
        raise ConfigError(f"{cls.__name__} has two values for '{name}'; give one.")
    fields = positional | fields
    for name in fields:
        if name not in known:
            raise ConfigError(unknown(f"{cls.__name__} has no field", name, known))
    values: dict[str, Any] = {CLASS: f"{cls.__module__}:{cls.__qualname__}"}
    for name, field in known.items():
        value = fields[name] if name in fields else default_of(field)
        if value is dataclasses.MISSING:
            wanted = name_of(hint_of(cls, field))
            raise ConfigError(
                f"{cls.__name__} needs a value for '{name}': write "
                f"node({cls.__name__}, {name}=…), {wanted}."
            )
        if name in fields and not holds_node(value):
            value = fitted(value, hint_of(cls, field), f"{cls.__name__}.{name}")
        values[name] = stored(value)
    # Not type safe: a field may hold None or a number, which ConfigDict would refuse;
    # the types are those of the class and are checked by `override` and `build`.
    return ConfigDict(values, type_safe=False).lock()


def same(path: str) -> Node:
    """Stands for what the whole config holds at `path`, such as `augment.distortion`.

    What two parts of an experiment have to agree in has one home so: changed there, it
    changes for both; an override of it elsewhere is refused.
    """
    return ConfigDict({SAME: path}).lock()


def resolved(config: Any) -> Any:
    """The config of an experiment with what is meant in place of every `same`."""

    def fill(value: Any, place: str, through: tuple[str, ...] = ()) -> Any:
        if isinstance(value, tuple):
            return tuple(fill(x, f"{place}[{i}]") for i, x in enumerate(value))
        if not isinstance(value, ConfigDict | Mapping):
            return value
        if SAME in value:
            path = str(value[SAME])
            found = at(config, path)
            if found is None or path in through:
                raise ConfigError(
                    f"{place} is the same as {path}, which is not there; change both, "
                    f"as in --config.{place}=…"
                )
            return fill(found, path, (*through, path))
        items = {key: fill(value[key], _join(place, key)) for key in _keys(value)}
        return ConfigDict(items, type_safe=False).lock()

    return fill(config, "") if referring(config) else config


def at(config: Any, path: str) -> Any:
    """What a config holds at a path, [-1] the last item; None if there is nothing."""
    for name in steps_of(path):
        if name.startswith("["):
            index = int(name[1:-1])
            there = isinstance(config, tuple) and -len(config) <= index < len(config)
            config = config[index] if there else None
        else:
            config = config[name] if name in _keys(config) else None
    return config


def steps_of(path: str) -> list[str]:
    """The names that a path is made of, and its indices, such as `[1]` or `[-1]`."""
    return re.findall(r"[^.\[\]]+|\[-?\d+\]", path)


def referring(value: Any, path: str = "") -> dict[str, str]:
    """The places of a config that hold a `same`, with what each is the same as."""
    if isinstance(value, tuple | list):
        parts = [(f"{path}[{i}]", item) for i, item in enumerate(value)]
    elif SAME in _keys(value):
        return {path: str(value[SAME])}
    else:
        parts = [(_join(path, key), value[key]) for key in _keys(value)]
    return {k: v for place, x in parts for k, v in referring(x, place).items()}


# Making the objects.


def build(config: Any, path: str = "") -> Any:
    """Makes the object that a node describes, its parts first.

    Only classes of jax_rcl and of modules that the program has already imported are
    built, so that a `config.json` from somewhere else cannot run code of its choice.

    Raises:
      ConfigError: an unknown class or field, a value of the wrong type, or one that the
        class refuses; the message starts with the path of the node.
    """
    if not path:
        config = resolved(config)
    if isinstance(config, Mapping | ConfigDict):
        if SAME in config:
            raise ConfigError(
                f"{path} is the same as {config[SAME]} of the whole config; take it "
                "from `resolved(config)`."
            )
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
    return json.dumps(plain(config), indent=2, sort_keys=True)


def from_json(text: str) -> ConfigDict:
    """The config that `to_json` wrote: `build` makes equal objects of both.

    Classes that have moved since are named where they are now. Other texts than JSON
    objects raise ValueError.
    """
    values = json.loads(text, object_hook=rename_class)
    if not isinstance(values, dict):
        raise ValueError(f"a config is a JSON object; got {short(values)}.")
    return stored(values)


def rename_class(node: dict[str, Any]) -> dict[str, Any]:
    """A node of stored JSON whose class is named where it is now."""
    return {**node, CLASS: class_path(str(node[CLASS]))} if CLASS in node else node


def completed(config: Any) -> Any:
    """A config with the fields that its classes have gained, at their defaults."""
    if isinstance(config, tuple):
        return tuple(completed(item) for item in config)
    if not isinstance(config, ConfigDict):
        return config
    values = {key: completed(config[key]) for key in _keys(config)}
    if CLASS in values:
        for name, field in fields_of(class_at(str(values[CLASS]), "config")).items():
            if name not in values and default_of(field) is not dataclasses.MISSING:
                values[name] = stored(default_of(field))
    return ConfigDict(values, type_safe=False).lock()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Lines `path: old value -> new value`, one per field that differs."""
    old, new = plain(old), plain(new)
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


def stored(value: Any) -> Any:
    """The value as a config holds it: dicts are locked, objects are nodes."""
    if isinstance(value, ConfigDict):
        return value
    if isinstance(value, Mapping):
        items = {key: stored(item) for key, item in value.items()}
        return ConfigDict(items, type_safe=False).lock()
    if isinstance(value, tuple | list):
        return tuple(stored(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # A default that is an object, such as `when=Every(epochs=1)`.
        return node(
            type(value), **{n: getattr(value, n) for n in fields_of(type(value))}
        )
    return value


def plain(value: Any) -> Any:
    """The value as JSON has it: dicts and lists."""
    if isinstance(value, ConfigDict | Mapping):
        return {key: plain(value[key]) for key in _keys(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _keys(holder: Any) -> list[str]:
    return list(holder.keys()) if isinstance(holder, ConfigDict | Mapping) else []


def holds_node(value: Any) -> bool:
    """Whether a value is a node, or has one in it."""
    if isinstance(value, ConfigDict):
        return True
    if isinstance(value, Mapping):
        return any(holds_node(item) for item in value.values())
    return isinstance(value, tuple | list) and any(holds_node(item) for item in value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
