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
    read,
    short,
    unknown,
)
from jax_rcl.moved import class_path

CLASS = "class"
"""Key of a node that holds `module:name` of the class it configures."""

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
    fields = dict(zip(known, args, strict=False)) | fields
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
        if name in fields and not _holds_node(value):
            value = fitted(value, hint_of(cls, field), f"{cls.__name__}.{name}")
        values[name] = _stored(value)
    # Not type safe: a field may hold None or a number, which ConfigDict would refuse;
    # the types are those of the class and are checked by `override` and `build`.
    return ConfigDict(values, type_safe=False).lock()


# Changing one.


def override(config: ConfigDict, path: str, text: str) -> None:
    """Sets one field, as `--config.<path>=<text>` does, checked against its class.

    `config` changes in place. A path is such as `objective.temperature` or
    `augment.operation.operations[0].size`, a text the value as Python writes it, or a
    bare string.

    Raises:
      ConfigError: no such field, or a value that it does not take.
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
        if isinstance(holder, tuple | list) and name.isdigit():
            raise ConfigError(f"--config.{path}: write [{name}] instead of .{name}.")
        if not isinstance(holder, ConfigDict) or name == CLASS or name not in holder:
            known = [key for key in _keys(holder) if key != CLASS]
            raise ConfigError(unknown(f"--config.{path}: there is no", name, known))
        if not last:
            holder = holder[name]
            continue
        cls = class_at(str(holder[CLASS]), name) if CLASS in holder else None
        hint = hint_of(cls, fields_of(cls)[name]) if cls else Any
        value = fitted(read(text, hint), hint, path, old=_plain(holder[name]))
        with holder.unlocked():
            holder[name] = _stored(value)


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

    Classes that have moved since are named where they are now. Other texts than JSON
    objects raise ValueError.
    """
    values = json.loads(text, object_hook=rename_class)
    if not isinstance(values, dict):
        raise ValueError(f"a config is a JSON object; got {short(values)}.")
    return _stored(values)


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
                values[name] = _stored(default_of(field))
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
