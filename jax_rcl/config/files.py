"""Config files: loading one, and the options that its name carries."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from jax_rcl.config.nodes import override
from jax_rcl.config.types import ConfigError, fitted, read, suggest, unknown


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
