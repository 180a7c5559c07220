"""Features of a trained run as a prior: `jax-rcl prepare features`."""

import argparse
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl.cli.prepare.shared import (
    add_out,
    add_part,
    free_file,
    part_of,
    source_at,
    write_prior,
)
from jax_rcl.cli.shared import Command, Parser, checkpoint, positive
from jax_rcl.config.types import ConfigError
from jax_rcl.config.workdir import stored_config
from jax_rcl.core import Operation, Source
from jax_rcl.data.frames import Framed
from jax_rcl.data.prior import Informed
from jax_rcl.train.features import WithFeatures, state_of
from jax_rcl.train.plan import is_drawn, refusals, sources_of

DESCRIPTION = """\
Encodes a source once by a trained run and writes the features to a file that
`data.prior.WithPrior` reads: `prior` [m, f], and where the source has them `labels` (or
targets) and `names`, by which a wrong order is found later. The rows are those of
`train.features.WithFeatures`, for many programs or large sources.

The source is the one that the run was trained on, or that of another config. Images are
encoded in inference mode, without augmentation; what the run's evaluators do to the
images of its own source first, such as a resize and a crop, is done here, too.
"""


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    parser.flag("run", "workdir of the run", required=True, metavar="DIR")
    parser.flag("layer", "of its encoder", default="features")
    about = "checkpoint: newest, best or a step"
    parser.flag("which", about, type=checkpoint, default="newest")
    source = "file.py or file.py:options with another source than that of the run"
    parser.flag("config", source)
    add_part(parser)
    parser.flag("split", "set the field `split` of the source")
    first = "what is done to the images first: as the run's evaluators do, or nothing"
    kinds = ("evaluators", "none")
    parser.flag("preprocess", first, choices=kinds, default="evaluators")
    parser.flag("batch_size", "images in a call", type=positive, default=256)
    add_out(parser)


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the features of one source."""
    out = free_file(arguments)
    workdir = Path(arguments.run).expanduser().absolute()
    step, _ = state_of(workdir, arguments.which)
    if arguments.config:
        config = configs.load(arguments.config, arguments.overrides)
    elif arguments.overrides:
        raise ConfigError(
            f"--config.{arguments.overrides[0][0]} needs --config: of the source of a "
            f"run only --split can be changed."
        )
    else:
        config = stored_config(workdir)
    if is_drawn(source_at(config, arguments.part)):
        raise ConfigError(
            f"--part={arguments.part} gives random crops, other ones at every step; "
            f"name the images as evaluators see them, such as "
            f"--part=evaluators.probe.train."
        )
    source = source_in(config, arguments.part, arguments.split)
    preprocess, why = None, ""
    if arguments.preprocess == "evaluators":
        preprocess, why = preprocess_of(stored_config(workdir))
    layer, which, size = arguments.layer, arguments.which, arguments.batch_size
    informed = WithFeatures(source, str(workdir), layer, preprocess, which, size)
    with refusals("--run"):
        rows = informed.priors
    write_prior(out, source, rows)
    print(
        f"layer {layer!r} of {arguments.run}, {which} checkpoint, step {step}; "
        f"preprocess: {preprocess}{why}."
    )


def preprocess_of(config: ConfigDict) -> tuple[Operation | None, str]:
    """What a run's evaluators do to the images of its training source, and why so."""
    config = configs.resolved(config)
    with refusals("evaluators"):
        trained = bare(configs.build(config.source, "source"))
        evaluators = configs.build(config.evaluators, "evaluators")
        found = {
            preprocess
            for source, preprocess in sources_of(evaluators)
            if bare(source) == trained
        }
    if len(found) == 1:
        return found.pop(), ", as the evaluators of the run"
    if not found:
        return None, ", as no evaluator of the run looks at its training source"
    return None, f", as the evaluators of the run have {len(found)} different ones"


def named_source(arguments: argparse.Namespace) -> Source:
    """The source that the flags of `add_source` name, without what gives it a prior.

    Of random crops, and of photographs in frames, the photographs themselves.
    """
    config = configs.load(arguments.config, arguments.overrides)
    source: Any = source_in(config, arguments.part)
    while is_drawn(source) or isinstance(source, Framed):
        source = source.source
    return source


def source_in(config: ConfigDict, part: str, split: str | None = None) -> Source:
    """The source at a path of a config, without what gives it a prior."""
    if split is not None:
        path, holder = part, part_of(config, part)
        while "split" not in holder:
            path, holder = f"{path}.source", holder.get("source")
            if not isinstance(holder, ConfigDict):
                raise ConfigError(
                    f"--split={split}: the source at {part} has no field `split`; name "
                    f"another part of the config, such as --part=evaluators.knn.test."
                )
        configs.override(config, f"{path}.split", split)
    return bare(source_at(config, part))


def bare(source: Source) -> Source:
    """What is inside the innermost `WithPrior` or the like; else the source."""
    inner: Any = source
    while inner is not None:
        if isinstance(inner, Informed):
            source = inner.source
        inner = getattr(inner, "source", None)
    return source


main = Command("prepare features", DESCRIPTION, add_flags, prepare)
