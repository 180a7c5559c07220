"""Config files: running one, and the options that its name carries."""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any

from ml_collections import ConfigDict

from jax_rcl.config.overrides import override
from jax_rcl.config.types import ConfigError, fitted, read, suggest, unknown
from jax_rcl.ranges import Within

_RUNNING = threading.RLock()  # what can be imported is the same for all threads


def load(argument: str, overrides: Iterable[tuple[str, str]] = ()) -> ConfigDict:
    """The config of `file.py` or `file.py:options`, with overrides applied in order.

    Raises:
      ConfigError: no such file, no `get_config` in it, or what that and the overrides
        raise.
    """
    config = run_file(argument, "config")
    for path, text in overrides:
        override(config, path, text)
    return config


def run_file(argument: str, kind: str) -> Any:
    """What `get_<kind>(arg)` returns, of `file.py` or `file.py:arg`.

    While it runs, the Python files in its folder and in the folder above can be
    imported: `from common import views`. They are read anew for every file that is run
    and forgotten afterwards, so that two folders may each have a `common.py`. In
    folders that Python searches anyway, modules are imported as always, and stay.

    Raises:
      ConfigError: no such file, no such function in it, or an error in the file or in
        one that it imports; the message names the file.
    """
    file, arg = split_argument(argument)
    path = Path(file)
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob("*.py"))
        raise ConfigError(f"there is no {kind} file {file}.{suggest(file, near)}")
    with _importable(_neighbours(path)):
        module = ModuleType(path.stem)
        module.__file__ = file
        _Anew(path.stem, file).exec_module(module)
        function = getattr(module, f"get_{kind}", None)
        if function is None:
            raise ConfigError(f"{file} defines no get_{kind}(arg='').")
        try:
            return function(arg)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"{_place(file, error)}: {_words(error)}") from error


def split_argument(argument: str) -> tuple[str, str]:
    """File and options of `file.py:options`; there may be colons in both."""
    places = [place for place, letter in enumerate(argument) if letter == ":"]
    for place in (*places, len(argument)):
        if Path(argument[:place]).is_file():
            return argument[:place], argument[place + 1 :]
    file, colon, arg = argument.partition(".py:")
    return (f"{file}.py", arg) if colon else (argument, "")


def _neighbours(path: Path) -> dict[str, Path]:
    """Python files of the folder of a file and of the one above, by module name."""
    searched = {Path(entry).resolve() for entry in sys.path}
    folder = path.resolve().parent
    return {
        file.stem: file
        for place in (folder.parent, folder)  # the nearer one wins
        if place not in searched
        for file in place.glob("*.py")
        if file.stem not in sys.stdlib_module_names
    }


@contextlib.contextmanager
def _importable(files: Mapping[str, Path]) -> Iterator[None]:
    """Lets modules be imported from these files, and forgets them afterwards."""
    finder = _Finder(files)
    with _RUNNING:
        # A program may have its own `common`. Packages stay: a file `jax.py` somewhere
        # above must not take the place of a library that is in use.
        others = {
            name: sys.modules.pop(name)
            for name in files.keys() & sys.modules.keys()
            if not hasattr(sys.modules[name], "__path__")
        }
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            for name in finder.found:
                sys.modules.pop(name, None)
            sys.modules.update(others)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules in given files, by name."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self.found: set[str] = set()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """The import system asks this."""
        if fullname not in self.files:
            return None
        self.found.add(fullname)
        file = str(self.files[fullname])
        loader = _Anew(fullname, file)
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


class _Anew(importlib.machinery.SourceFileLoader):
    """Loads a module without a cache, which only notices edits a second apart."""

    def get_code(self, fullname: str) -> Any:
        """Compiles the file."""
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        """Runs the file; an error in it is one message."""
        try:
            super().exec_module(module)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from error
        except Exception as error:
            place = _place(self.path, error)
            raise ConfigError(f"{place}: {_words(error)}") from error


def _place(file: str, error: Exception) -> str:
    """The file, and the line of it that an error went through last."""
    calls = traceback.extract_tb(error.__traceback__)
    lines = [f", line {x.lineno}" for x in calls if x.filename == file]
    return f"{file}{''.join(lines[-1:])}"


def _words(error: Exception) -> str:
    """What an error says; of most that a file makes, the kind is half of it."""
    told = isinstance(error, OSError | ValueError)  # of a file that it looks into
    return str(error) if told else f"{type(error).__name__}: {error}"


def parse(arg: str, **defaults: Any) -> SimpleNamespace:
    """Options of a config file: `--config=file.py:classes=100,epochs=5`.

    What follows the colon is `arg`; `defaults` has every option with its default, whose
    type a value must have, or a tuple of all choices, the default first, or the pair of
    default and range, such as `(1.0, Within(0, 1))`. The result has a value for each
    option, and `given`, the names of those in `arg`.

    A comma in a text, such as a path, is one if there is such a file, or if the text is
    in quotes: `folder='a,b'`.

    Raises:
      ConfigError: an unknown option, a value of another type or out of its range, or
        not one of the choices.
    """
    given = set()
    choices = {k: v for k, v in defaults.items() if isinstance(v, tuple)}
    bounds = {k: v[1] for k, v in choices.items() if isinstance(v[-1], Within)}
    choices = {k: v for k, v in choices.items() if k not in bounds}
    defaults |= {name: defaults[name][0] for name in bounds}
    options = defaults | {name: values[0] for name, values in choices.items()}
    for item in _items(arg):
        name, equals, text = item.partition("=")
        if name not in options:
            raise ConfigError(unknown("this config has no option", name, defaults))
        if isinstance(options[name], str) and text[:1] in _QUOTES:
            text = text[1:-1] if text[-1:] == text[:1] else text
        if not equals:
            raise ConfigError(f"option '{name}' needs a value: {name}=…")
        hint: Any = type(options[name])
        if name in bounds:
            hint = Annotated[hint, bounds[name]]
        options[name] = fitted(read(text, hint), hint, f"option '{name}'")
        if options[name] not in choices.get(name, (options[name],)):
            known = [str(each) for each in choices[name]]
            raise ConfigError(unknown(f"option '{name}' has no value", text, known))
        given.add(name)
    return SimpleNamespace(**options, given=frozenset(given))


_QUOTES = ("'", '"')


def _items(arg: str) -> Iterator[str]:
    """What commas separate, but for those in a quoted text or a path that exists."""
    pieces = arg.split(",")
    while pieces:
        item = pieces.pop(0)
        quote = item.partition("=")[2][:1]
        if quote in _QUOTES and any(piece.endswith(quote) for piece in pieces):
            while not (item.endswith(quote) and len(item.partition("=")[2]) > 1):
                item = f"{item},{pieces.pop(0)}"
        else:
            path = item.partition("=")[2]
            longer = [",".join((path, *pieces[:n])) for n in range(1, len(pieces) + 1)]
            there = [n for n, each in enumerate(longer, 1) if path and _exists(each)]
            for _ in range(max(there, default=0)):
                item = f"{item},{pieces.pop(0)}"
        if item:
            yield item


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, or of no user
        return False


def only_with(options: SimpleNamespace, fits: bool, what: str, *names: str) -> None:
    """Refuses options of `parse` that were given and, unless `fits`, do nothing.

    `what` is the choice that they are for, such as `negatives=patch`.
    """
    for name in names:
        if not fits and name in options.given:
            raise ConfigError(
                f"option '{name}' does nothing here: it is for {what}. Write that, or "
                f"omit '{name}'."
            )
