"""Fields of a class: their names and types, and whether values fit them."""

import ast
import dataclasses
import difflib
import importlib
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from beartype import BeartypeConf
from beartype.door import is_bearable

from jax_rcl import ranges

_TOWER = BeartypeConf(is_pep484_tower=True)  # an int may stand for a float


class ConfigError(ValueError):
    """A config that cannot be what its author meant; the message says what to write."""


def fields_of(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """Fields that a config may set, by name, in the order of the constructor."""
    if not dataclasses.is_dataclass(cls):
        raise ConfigError(f"{cls!r} is not a dataclass; a config cannot describe it.")
    # A linen module's `parent` and `name` belong to flax, not to the config.
    linen = any(base.__module__.startswith("flax.linen") for base in cls.__mro__)
    hidden = {"parent", "name"} if linen else set()
    # Fields of a keyword-only parent come first in `fields`, last in the constructor.
    fields = sorted(dataclasses.fields(cls), key=lambda f: bool(f.kw_only))
    return {f.name: f for f in fields if f.init and f.name not in hidden}


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field; `MISSING` if it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def hint_of(cls: type, field: dataclasses.Field[Any]) -> Any:
    """The type of a field, also where the class wrote it as text."""
    if not isinstance(field.type, str):
        return field.type
    for base in cls.__mro__:
        if field.name in inspect.get_annotations(base):
            return inspect.get_annotations(base, eval_str=True)[field.name]
    return Any


def class_at(path: str, where: str) -> type:
    """The class at `module:name`, of jax_rcl or of an imported module."""
    module, _, name = path.partition(":")
    if module.split(".")[0] == "jax_rcl" and module not in sys.modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{where}: there is no module {module}.") from error
    if module not in sys.modules:
        raise ConfigError(
            f"{where or 'config'}: {path} is neither a class of jax_rcl nor of a "
            f"module that this program has imported; import {module} first if you "
            "trust it."
        )
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise ConfigError(f"{where or 'config'}: module {module} has no class {name}.")
    return found


def fitted(value: Any, hint: Any, where: str, *, old: Any = None) -> Any:
    """`value` as the type `hint` (lists become tuples); else a ConfigError."""
    if isinstance(value, list):
        value = tuple(value)
    if is_a(value, hint):
        try:
            ranges.check(value, hint, where)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return float(value) if ranges.bare(hint) is float else value
    for each in value.values() if isinstance(value, Mapping) else ():
        lacking = [
            name for kind in typing.get_args(hint)[1:] for name in lacks(each, kind)
        ]
        if lacking and not isinstance(each, str | int | float | tuple | None):
            kind, names = type(each).__name__, ", ".join(lacking)
            raise ConfigError(
                f"{where}: {kind} has no {names}, which is asked of each."
            )
    holds = "" if old is None else f"holds {short(old)} and "
    wanted = name_of(hint)
    got = f"{short(value)} ({type(value).__name__})"
    raise ConfigError(f"{where} {holds}takes {wanted}; got {got}.")


def name_of(hint: Any) -> str:
    """A type as a person writes it, without its range."""
    hint = ranges.bare(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(map(name_of, typing.get_args(hint)))
    if hint is type(None):
        return "None"
    if typing.get_origin(hint) is tuple:
        parts = ("..." if x is ... else name_of(x) for x in typing.get_args(hint))
        return f"tuple[{', '.join(parts)}]"
    if typing.get_origin(hint) is Callable:
        *takes, gives = typing.get_args(hint)
        listed = ", ".join(map(name_of, takes[0])) if takes[0] is not ... else "..."
        return f"Callable[[{listed}], {name_of(gives)}]"
    if isinstance(hint, type):
        return hint.__name__.rpartition(".")[2]
    return str(hint).replace("typing.", "")


def is_a(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; of a protocol, by looking at names alone.

    Python 3.11's `isinstance` evaluates the properties that a protocol names, and the
    class names of a source may be in an archive that is not there yet.
    """
    hint = ranges.bare(hint)
    inner = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if getattr(hint, "_is_protocol", False):
        return not lacks(value, hint)
    if origin in (typing.Union, types.UnionType):
        return any(is_a(value, each) for each in inner)
    if origin is tuple and inner[1:] == (...,):
        return isinstance(value, tuple) and all(is_a(x, inner[0]) for x in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            is_a(x, inner[1]) for x in value.values()
        )
    if isinstance(value, bool) and hint in (int, float):
        return False  # Python counts with them, but nobody means it here
    return is_bearable(value, hint, conf=_TOWER)


def lacks(value: Any, protocol: Any) -> list[str]:
    """What a protocol asks for and a value has not; nothing of other types."""
    if not getattr(protocol, "_is_protocol", False):
        return []
    nothing = object()
    return [
        name
        for name in sorted(members_of(protocol))
        if inspect.getattr_static(value, name, nothing) is nothing
    ]


def members_of(protocol: Any) -> set[str]:
    """Names of the properties and methods that a protocol asks for."""
    return {
        name
        for name, member in vars(protocol).items()
        if isinstance(member, property)
        or (inspect.isfunction(member) and name not in ("__init__", "__subclasshook__"))
    }


def read(text: str, hint: Any) -> Any:
    """A flag as a value: itself where a string is meant, else as Python reads it."""
    if hint is str:
        return text
    lowered = {"true": True, "false": False, "none": None, "nan": math.nan}
    if text.lower() in lowered and is_a(lowered[text.lower()], hint):
        return lowered[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    # A folder may be called 2024.
    return text if is_a(text, hint) and not is_a(value, hint) else value


def short(value: Any) -> str:
    """The value as Python writes it, in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def suggest(name: str, known: Iterable[str]) -> str:
    """Asks whether the nearest known name was meant; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def unknown(start: str, name: str, known: Iterable[str]) -> str:
    """A message about an unknown name."""
    names = ", ".join(known) or "(none)"
    return f"{start} '{name}'; there are: {names}.{suggest(name, known)}"
