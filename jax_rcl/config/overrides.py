"""Changing a config by texts, as `--config.<path>=<text>` on a command line does.

A text is what a config file would write there: a number, a word, a tuple, or classes by
their names, called with the values of their fields:

    --config.objective.kernel=Cosine
    --config.optimizer='Adam(1e-3, schedule=MultiStep((30, 40)))'
    --config.init_from='(Restore("runs/first", FROZEN_ENCODER),)'

Names are those of the folders of jax_rcl, `Cosine` or in full `rcl.optim.Cosine`, of
which the one that the field takes is meant, and `module:Class` of any module. Nothing
is evaluated: what is neither a literal nor such a call is refused.
"""

import ast
import difflib
import functools
import importlib
import inspect
import io
import pkgutil
import re
import tokenize
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jax_rcl import ranges
from jax_rcl.config.nodes import (
    CLASS,
    SAME,
    at,
    build,
    from_json,
    holds_node,
    node,
    plain,
    referring,
    steps_of,
    stored,
    to_json,
)
from jax_rcl.config.types import (
    ConfigError,
    class_at,
    fields_of,
    fitted,
    hint_of,
    is_a,
    members_of,
    name_of,
    read,
    short,
    suggest,
    unknown,
)
from jax_rcl.core import Augment


def override(config: ConfigDict, path: str, text: str) -> None:
    """Sets one field, as `--config.<path>=<text>` does, checked against its class.

    `config` changes in place. A path is such as `objective.temperature` or
    `augment.operation.operations[0].size`, of which [-1] is the last. A new name is
    added to what maps names to objects, such as `evaluators`.

    Raises:
      ConfigError: no such field, or a value that it does not take, or one that is the
        `same` as another place.
    """
    names = steps_of(path)
    _check_home(config, names, path)
    homes = _homes_in(config, names)
    if homes:
        trial = from_json(to_json(config))
        _change(trial, Any, names, path, text)
        _check_homes(homes, config, trial, path)
    _change(config, Any, names, path, text)


def _homes_in(config: ConfigDict, names: list[str]) -> dict[str, str]:
    """Homes of what is the same that are counted inside of a place, such as its [-1].

    With each the place that refers to it.
    """
    found = {}
    for place, home in referring(config).items():
        steps = steps_of(home)
        inside = steps[len(names) :]
        if steps[: len(names)] == names and any(x.startswith("[") for x in inside):
            found[home] = place
    return found


def _check_homes(
    homes: Mapping[str, str], old: ConfigDict, new: ConfigDict, path: str
) -> None:
    """Refuses that something of another class gets to the place of a home.

    What is counted may be another thing in a tuple that is replaced as a whole: the
    last operation of a view, which distorts, evaluators have, too.
    """
    for home, place in homes.items():
        kinds = [_kind(at(config, home)) for config in (old, new)]
        if None not in kinds and kinds[0] != kinds[1]:
            raise ConfigError(
                f"--config.{path}: {home} would be {kinds[1]} instead of {kinds[0]}, "
                f"and {place} is the same as {home}. If both are to change, write "
                f"first --config.{home}=…"
            )


def _kind(value: Any) -> str | None:
    """The name of the class of a node; None for other values."""
    known = isinstance(value, ConfigDict) and CLASS in value
    return str(value[CLASS]).rpartition(":")[2] if known else None


def _check_home(config: ConfigDict, names: list[str], path: str) -> None:
    """Refuses to change apart what is the same as another place of the config."""
    value: Any = config
    for place, name in enumerate(names):
        value = at(value, name)
        if not isinstance(value, ConfigDict) or SAME not in value:
            continue
        home, inside = str(value[SAME]), names[place + 1 :]
        if inside or at(config, home) is not None:
            steps = (x if x.startswith("[") else f".{x}" for x in inside)
            raise ConfigError(
                f"--config.{path}: this is the same as {home}; change it there, for "
                f"both: --config.{home}{''.join(steps)}=…"
            )
        return  # its home is gone, and it gets a value of its own


def _change(holder: Any, hint: Any, names: list[str], path: str, text: str) -> Any:
    """Changes what the names lead to; returns the holder, of a tuple a new one."""
    name, *rest = names or [""]

    def changed(old: Any, inner: Any) -> Any:
        if rest:
            return _change(old, inner, rest, path, text)
        return value_of(text, inner, path, old=plain(old))

    if name.startswith("["):
        index, count = int(name[1:-1]), len(holder) if _several(holder) else 0
        if not -count <= index < count:
            raise ConfigError(f"--config.{path}: there is no {name}.")
        index %= count
        item = changed(holder[index], _hint_at(hint, index))
        return (*holder[:index], item, *holder[index + 1 :])
    if _several(holder) and re.fullmatch(r"-?\d+", name):
        raise ConfigError(f"--config.{path}: write [{name}] instead of .{name}.")
    return _change_named(holder, hint, name, changed, bool(rest), path)


def _several(holder: Any) -> bool:
    return isinstance(holder, tuple | list)


def _change_named(
    holder: Any,
    hint: Any,
    name: str,
    changed: Callable[[Any, Any], Any],
    deeper: bool,
    path: str,
) -> Any:
    """Changes a field, or an item of what maps names to objects."""
    known = list(holder.keys()) if isinstance(holder, ConfigDict) else []
    if CLASS in known:
        known.remove(CLASS)
        cls = class_at(str(holder[CLASS]), name)
        inner = hint_of(cls, fields_of(cls)[name]) if name in known else Any
        new = False
    else:
        inner = _hint_at(hint, name)
        new = isinstance(holder, ConfigDict) and not deeper and takes_objects(inner)
    if name not in known and not new:
        raise ConfigError(unknown(f"--config.{path}: there is no", name, known))
    value = changed(holder.get(name), inner)
    with holder.unlocked():
        holder[name] = value
    return holder


def _hint_at(hint: Any, place: int | str) -> Any:
    """The type of one item of what has the type `hint`."""
    for arm in _arms(hint):
        inner = typing.get_args(arm)
        if isinstance(place, int) and typing.get_origin(arm) is tuple and inner:
            several = inner[1:] != (...,)
            return inner[min(place, len(inner) - 1)] if several else inner[0]
        if isinstance(place, str) and typing.get_origin(arm) is Mapping:
            return inner[1]
    return Any


def value_of(text: str, hint: Any, path: str, *, old: Any = None) -> Any:
    """A text as the value of a field of type `hint`, objects as nodes.

    Raises:
      ConfigError: the field does not take it; the message names the path.
    """
    value = read(text, hint)
    if isinstance(value, str) and not is_a(value, hint):
        if takes_objects(hint) or _is_constant(text):
            value = _expression(text, hint, f"--config.{path}")
    if holds_node(value):
        made = build(stored(value), path)
        if not is_a(made, hint) and is_a((made,), hint):
            raise ConfigError(
                f"--config.{path} takes several; write them in brackets, "
                f"({text},) if it is one."
            )
        fitted(made, hint, path)
        return stored(value)
    return stored(fitted(value, hint, path, old=old))


def _is_constant(text: str) -> bool:
    """Whether a text is the name of a public constant, or of an item of one."""
    name = text.partition("[")[0].rpartition(".")[2].strip()
    return name.isupper() and name in public()


def takes_objects(hint: Any) -> bool:
    """Whether a type has values that are made by calling a class."""
    for arm in _arms(hint):
        inner = typing.get_args(arm)
        if typing.get_origin(arm) is tuple:
            found = any(takes_objects(each) for each in inner if each is not ...)
        elif typing.get_origin(arm) is Mapping:
            found = takes_objects(inner[1])
        else:
            plain_types = (int, float, str, bool, complex, types.NoneType)
            found = typing.get_origin(arm) is not typing.Literal and (
                arm not in (*plain_types, Any)
            )
        if found:
            return True
    return False


def _arms(hint: Any) -> tuple[Any, ...]:
    """The types of a union, without their ranges."""
    hint = ranges.bare(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(arm for each in typing.get_args(hint) for arm in _arms(each))
    return (hint,)


# Reading.

_OF = "__of__"
"""Stands for the colon of `module:Class`, which Python's grammar has not."""


def _expression(text: str, hint: Any, where: str) -> Any:
    try:
        tree = ast.parse(_without_colons(text), mode="eval").body
    except (SyntaxError, tokenize.TokenError, ValueError) as error:
        words = error.msg if isinstance(error, SyntaxError) else error.args[0]
        raise ConfigError(
            f"{where}: {short(text)} is no value as Python writes it ({words}). Is "
            "a bracket or a quote missing?"
        ) from error
    try:
        return _read(tree, hint, where)
    except ConfigError as error:
        words = str(error).replace(f".{_OF}.", ":")
        raise ConfigError(f"{words}{_in_full(text, hint)}") from error


def _in_full(text: str, hint: Any) -> str:
    """What to write for a word that is meant for the first field of a class."""
    classes = [arm for arm in _arms(hint) if _is_class(arm)]
    if len(classes) != 1 or not re.fullmatch(r"[\w./-]+", text.strip()):
        return ""
    cls, fields = classes[0], [*fields_of(classes[0]).values()]
    takes_text = bool(fields) and hint_of(cls, fields[0]) is str
    return f' Write {cls.__name__}("{text.strip()}").' if takes_text else ""


def _without_colons(text: str) -> str:
    """The text with `module:Class` in a form that Python can parse."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text.strip()).readline))
    words = []
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        named = before.type == after.type == tokenize.NAME
        if token.string == ":" and named and before.end == token.start:
            words.append(token.start[1])
    text = text.strip()
    for place in reversed(words):
        text = f"{text[:place]}.{_OF}.{text[place + 1 :]}"
    return text


def _read(tree: ast.expr, hint: Any, where: str) -> Any:
    """The value that an expression stands for: literals, and nodes of classes."""
    match tree:
        case ast.Tuple(items) | ast.List(items):
            return tuple(
                _read(item, _hint_at(hint, place), where)
                for place, item in enumerate(items)
            )
        case ast.Dict(keys, values):
            names = [k.value if isinstance(k, ast.Constant) else None for k in keys]
            if not all(isinstance(name, str) for name in names):
                raise ConfigError(f"{where}: keys are texts in quotes.")
            return {
                name: _read(value, _hint_at(hint, str(name)), where)
                for name, value in zip(names, values, strict=True)
            }
        case ast.Call():
            return _node(tree, hint, where)
        case ast.Subscript(holder, ast.Constant(key)):
            table = _named(_dotted(holder, where), Any, where)
            if not isinstance(table, Mapping) or key not in table:
                known = table if isinstance(table, Mapping) else ()
                raise ConfigError(unknown(f"{where}: there is no", str(key), known))
            return stored(table[key])
        case ast.Name(name) if is_a(name, hint):
            return name  # one of the words that the field takes
        case ast.Name("nan" | "inf" as name):
            return float(name)
        case ast.Name() | ast.Attribute():
            name = _dotted(tree, where)
            found = _named(name, hint, where)
            if isinstance(found, type) and not _is_class(found):
                raise ConfigError(
                    f"{where}: {name} is no class that a config can hold."
                )
            return _made(found, (), {}, where) if _is_class(found) else stored(found)
    try:
        return ast.literal_eval(tree)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{where}: {short(ast.unparse(tree))} is neither a literal nor a class "
            "called with its fields; nothing else is read here."
        ) from error


def _node(call: ast.Call, hint: Any, where: str) -> Any:
    """The node of a class that is called; `node(Class, …)` is the same."""
    arguments = list(call.args)
    name = _dotted(call.func, where)
    if name.removeprefix("rcl.").removeprefix("config.") == "node" and arguments:
        name = _dotted(arguments.pop(0), where)
    cls = _named(name, hint, where)
    if not _is_class(cls):
        raise ConfigError(f"{where}: {name} is no class that a config can hold.")
    known = fields_of(cls)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if None in keywords or any(isinstance(x, ast.Starred) for x in arguments):
        raise ConfigError(f"{where}: write out what * stands for.")

    def inner(name: str | None) -> Any:
        return hint_of(cls, known[name]) if name in known else Any

    hints = [inner(name) for name in known] + [Any] * len(arguments)
    values = [_read(x, h, where) for x, h in zip(arguments, hints, strict=False)]
    fields = {name: _read(x, inner(name), where) for name, x in keywords.items()}
    return _made(cls, values, fields, where)


def _made(cls: type, values: Any, fields: Any, where: str) -> Any:
    try:
        return node(cls, *values, **fields)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _dotted(tree: ast.expr, where: str) -> str:
    """`a.b.C` of names and attributes."""
    if isinstance(tree, ast.Name):
        return tree.id
    if isinstance(tree, ast.Attribute):
        return f"{_dotted(tree.value, where)}.{tree.attr}"
    raise ConfigError(
        f"{where}: {short(ast.unparse(tree))} cannot be called; classes have names."
    )


# Finding what has a name.


def _named(name: str, hint: Any, where: str) -> Any:
    """The class or constant of a name; of several, the one that the type takes."""
    if _OF in name:
        module, _, rest = name.partition(f".{_OF}.")
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{where}: there is no module {error.name}.") from error
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            raise ConfigError(f"{where}: importing {module}: {words}") from error
        return class_at(f"{module}:{rest}", where)
    last = name.rpartition(".")[2]
    full = name.removeprefix("jax_rcl.").removeprefix("rcl.")
    places = [p for p in public().get(last, ()) if p == full or p.endswith(f".{full}")]
    found = {place: _at(place) for place in places or _inside(full)}
    fitting = {p: x for p, x in found.items() if not _is_class(x) or may_be(x, hint)}
    # What is listed in two folders is one thing.
    if len({id(x) for x in fitting.values()}) == 1:
        return next(iter(fitting.values()))
    home = _home(hint)
    if home in {p.partition(".")[0] for p in fitting}:
        return next(x for p, x in fitting.items() if p.startswith(f"{home}."))
    if fitting:
        raise ConfigError(
            f"{where}: {name} may be {' or '.join(fitting)}; write which of them."
        )
    start = f"{where}: there is no '{name}'"
    if found:
        start = f"{where} takes {name_of(hint)}, which {next(iter(found))} is not"
    names = _that_fit(hint)
    listed = difflib.get_close_matches(last, names, n=10, cutoff=0.0)
    others = ", …" if len(names) > len(listed) else ""
    there = f"; there are {', '.join(sorted(listed))}{others}" if names else ""
    hint_at = suggest(last, names or public()) if not found else ""
    raise ConfigError(f"{start}{there}.{hint_at}")


@functools.cache
def public() -> Mapping[str, tuple[str, ...]]:
    """Where the folders of jax_rcl have a class or constant of a name."""
    found: dict[str, tuple[str, ...]] = {}

    def look(package: Any, place: str) -> None:
        inside = {
            each.name: each.ispkg for each in pkgutil.iter_modules(package.__path__)
        }
        listed = getattr(package, "__all__", ())
        for name in listed:
            if name[:1].isupper() and name not in inside:
                found[name] = (*found.get(name, ()), f"{place}{name}")
        for name, is_package in inside.items():
            if is_package and name in listed:
                look(getattr(package, name), f"{place}{name}.")

    look(importlib.import_module("jax_rcl"), "")
    return found


def _at(place: str) -> Any:
    """What stands at a place of `public`."""
    return functools.reduce(
        getattr, place.split("."), importlib.import_module("jax_rcl")
    )


def _inside(place: str) -> list[str]:
    """The place itself if there is something, though no folder lists it."""
    try:
        return [place] if "." in place and _at(place) is not None else []
    except AttributeError:
        return []


def _that_fit(hint: Any) -> list[str]:
    """Names of public classes that a type takes, of its own folder if it has one."""
    home = _home(hint)
    inside = f"{home}." if home else ""
    return [
        name
        for name, places in sorted(public().items())
        if any(_fits(_at(p), hint) for p in places if p.startswith(inside))
    ]


def _fits(found: Any, hint: Any) -> bool:
    """Whether it is a class of which there can be objects that a type takes."""
    return _is_class(found) and not inspect.isabstract(found) and may_be(found, hint)


def _home(hint: Any) -> str:
    """The folder of jax_rcl that defines a type; none of what all folders share."""
    for arm in _arms(hint):
        parts = getattr(arm, "__module__", "").split(".")
        if parts[0] == "jax_rcl" and len(parts) > 2:
            return parts[1]
    return ""


def may_be(cls: type, hint: Any) -> bool:
    """Whether objects of a class can be of a type, before one is made."""
    there = {name for base in cls.__mro__ for name in vars(base)} | set(fields_of(cls))
    for arm in _arms(hint):
        origin, inner = typing.get_origin(arm) or arm, typing.get_args(arm)
        if getattr(arm, "_is_protocol", False):
            fits = members_of(arm) <= there and (
                "__call__" not in members_of(arm) or _takes(cls) == _takes(arm)
            )
        elif origin is Callable:
            takes = _takes(cls) if "__call__" in there else ("nothing=",)
            # What is called with a batch is no operation, though with as many.
            fits = len(takes) == len(inner[0]) and takes != _takes(Augment)
            fits = fits and not any(name.endswith("=") for name in takes)
        elif origin is tuple and inner[1:] == (...,):
            fits = may_be(cls, inner[0])  # one of several, see `value_of`
        else:
            fits = arm is Any or (isinstance(origin, type) and issubclass(cls, origin))
        if fits:
            return True
    return False


def _takes(cls: type) -> tuple[str, ...]:
    """What objects of a class have to be called with: names, `train=` if by name."""
    called: Any = cls.__call__
    _, *parameters = inspect.signature(called).parameters.values()
    return tuple(
        f"{x.name}=" if x.kind is x.KEYWORD_ONLY else x.name
        for x in parameters
        if x.default is x.empty
    )


def _is_class(found: Any) -> bool:
    """Whether it is a class that a config can hold."""
    return isinstance(found, type) and hasattr(found, "__dataclass_fields__")
