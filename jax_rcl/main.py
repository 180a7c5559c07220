"""The one command: `jax-rcl`, the same as `python -m jax_rcl.main`.

Without a subcommand it trains: `jax-rcl --config=configs/quickstart.py`.
"""

import difflib
import importlib
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

COMMANDS = {
    "train": "trains, resumes, evaluates and reports one experiment (the default)",
    "table": "trains the runs of a results table and prints it",
    "compare": "lays runs side by side: shifted test sets, levels of distortions",
    "bench": "measures the speed of training as a config sets it up",
    "export": "writes a trained encoder for other libraries",
    "prepare": "prepares data once: features, textures, priors, packed records",
}

PREPARE = {
    "bigbigan": "features of BigBiGAN's encoder as a prior (TensorFlow Hub)",
    "class_embeddings": "names of classes embedded by CLIP's text tower",
    "cub": "the attributes of CUB-200-2011 as a prior",
    "features": "features of a trained run as a prior",
    "gloria": "features of GLoRIA's encoder of radiographs as a prior",
    "imagenet100": "ImageNet-100 out of ImageNet",
    "join": "features computed elsewhere, in the order of a source",
    "pack": "a source as records of fixed size",
    "textures": "the textures of a folder of photographs",
    "zappos": "the attributes of UT-Zappos50K as a prior",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status, 0 when all was done.

    130 and 143 say that Ctrl-C and SIGTERM stopped it, 2 that what was asked for cannot
    work, 1 that the numbers went wrong.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0].startswith("-"):
        return run("train", arguments)
    command, rest = arguments[0], arguments[1:]
    if command == "help":
        print(usage("jax-rcl", COMMANDS))
        return 0
    if command not in COMMANDS:
        return refuse("jax-rcl", command, COMMANDS)
    if command != "prepare":
        return run(command, rest)
    if not rest or rest[0] in ("help", "--help", "-h"):
        print(usage("jax-rcl prepare", PREPARE))
        return 0 if rest else 2
    if rest[0] not in PREPARE:
        return refuse("jax-rcl prepare", rest[0], PREPARE)
    return run(f"prepare.{rest[0]}", rest[1:])


def run(command: str, argv: Sequence[str]) -> int:
    """Runs the module of a command, which nothing has imported until now."""
    return importlib.import_module(f"jax_rcl.cli.{command}").main(argv)


def usage(program: str, commands: dict[str, str]) -> str:
    """Every command with what it does."""
    width = max(map(len, commands)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in commands.items()]
    head = f"usage: {program} COMMAND [flags]\n"
    return "\n".join([head, *lines, "", f"{program} COMMAND --help shows its flags."])


def refuse(program: str, name: str, commands: dict[str, str]) -> int:
    """Says that there is no such command, and which is nearest."""
    near = difflib.get_close_matches(name, commands, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    print(
        f"\n{program}: there is no command {name!r}; there are: "
        f"{', '.join(commands)}.{hint}",
        file=sys.stderr,
    )
    return 2


def script() -> NoReturn:
    """`main` as a program. It ends even if a thread waits for another process."""
    status = main()
    threads = set(threading.enumerate()) - {threading.main_thread()}
    if status == 1 and not all(thread.daemon for thread in threads):
        importlib.import_module("jax_rcl.parallel").stop()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    script()
