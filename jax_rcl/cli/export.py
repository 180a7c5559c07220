"""A trained encoder in another library's names: `jax-rcl export`."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from jax_rcl.checkpoint import read_variables
from jax_rcl.cli.prepare.shared import add_out, free_file
from jax_rcl.cli.prepare.work import whole
from jax_rcl.cli.shared import Command, Parser, checkpoint
from jax_rcl.config.types import ConfigError
from jax_rcl.train.features import state_of
from jax_rcl.train.plan import refusals
from jax_rcl.weights import clip, torchvision
from jax_rcl.weights.rules import WeightsMismatch, unflatten

DESCRIPTION = """\
Writes an encoder of a trained run as .safetensors that PyTorch programs can read:
a `ResNet` in torchvision's names, with the classifier of a `Classify` as `fc`; a
`ClipResNet` or `ClipViT` in OpenAI's, with `visual.` in front. Arrays are those of the
checkpoint, bit for bit; `ImportResNet` and `ImportClip` read the file back.
"""

SUFFIX = ".safetensors"

_NETWORKS = {
    "torchvision": "a `ResNet` with batch normalisation",
    "openai": "a `ClipResNet` or a `ClipViT`",
}

Arrays = dict[str, np.ndarray]


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    parser.flag("run", "a workdir", required=True, metavar="DIR")
    parser.flag("names", required=True, choices=tuple(_NETWORKS))
    add_out(parser, SUFFIX)
    about = "name of the network, trained or frozen, such as teacher"
    parser.flag("part", about, default="encoder")
    parser.flag("which", "newest, best or a step", type=checkpoint, default="newest")


def export(arguments: argparse.Namespace) -> None:
    """Writes one file."""
    out = free_file(arguments, SUFFIX)
    workdir = Path(arguments.run).expanduser().absolute()
    step, _ = state_of(workdir, arguments.which)
    with refusals("--run"):
        variables = read_variables(workdir, arguments.which)
    arrays = _rename(variables, arguments.names, arguments.part, arguments.run)
    facts = {"format": "pt", "names": arguments.names, "part": arguments.part}
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as partial:
        save_file(arrays, partial, {**facts, "step": str(step)})
    print(
        f"{out}: {len(arrays)} arrays of '{arguments.part}' of {arguments.run}, "
        f"{arguments.which} checkpoint, step {step}"
        f"{', with its classifier as fc' if 'fc.weight' in arrays else ''}."
    )


def _rename(variables: Mapping[str, Any], names: str, part: str, run: str) -> Arrays:
    """A part of the variables, which are given by path, in another library's names."""
    network = _part(variables, part, run)
    only = f"--names={names} is for {_NETWORKS[names]}, and "
    try:
        if names == "openai":
            arrays = clip.from_variables({"visual": network})
        else:
            head = _below(variables, "params/head") if part == "encoder" else {}
            # The head of a `Classify` has a name there if it is one linear layer.
            more = {"head": head} if set(head) == {"out"} else {}
            arrays = torchvision.from_variables(network | more)
    except WeightsMismatch as error:
        lines = str(error).splitlines()[1:]
        raise ConfigError(
            f"{only}'{part}' of {run} is another: {len(lines)} array(s) have no name "
            f"there, first {lines[0].removeprefix('+ ')}. Other networks have no names "
            f"in another library; read them with `checkpoint.read_variables`."
        ) from error
    if names == "torchvision" and "bn1.running_mean" not in arrays:
        raise ConfigError(f"{only}'{part}' of {run} has no batch statistics.")
    return arrays


def _part(variables: Mapping[str, Any], part: str, run: str) -> dict[str, Any]:
    """`params` and, where there are any, `batch_stats` of a network, as trees."""
    frozen, kept = f"frozen/{part}", f"memory/{part}"
    for params, *stats in (
        (f"params/{part}", kept),
        (f"{frozen}/params", f"{frozen}/batch_stats", kept),
        (f"{kept}/params", f"{kept}/batch_stats"),
    ):
        found = _below(variables, params)
        if found:
            held = next(filter(None, (_below(variables, path) for path in stats)), {})
            return {"params": found} | ({"batch_stats": held} if held else {})
    tops = sorted({"/".join(path.split("/")[:2]) for path in variables})
    raise ConfigError(
        f"--part={part}: there is no such network in {run}; there are: "
        f"{', '.join(tops)}."
    )


def _below(variables: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat = {
        path.removeprefix(f"{prefix}/"): x
        for path, x in variables.items()
        if path.startswith(f"{prefix}/")
    }
    return unflatten(flat)


main = Command("export", DESCRIPTION, add_flags, export)
