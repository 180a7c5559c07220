"""Features of a trained run as a prior: `jax-rcl prepare features`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tqdm
from jaxtyping import Float32
from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl.checkpoint import Which
from jax_rcl.cli.prepare.pack import part_of
from jax_rcl.cli.prepare.work import whole
from jax_rcl.cli.shared import exit_status, read_overrides
from jax_rcl.config.types import ConfigError, is_a
from jax_rcl.config.workdir import stored_config
from jax_rcl.core import Operation, Source
from jax_rcl.data.prior import Informed
from jax_rcl.data.records import labels_of, names_of
from jax_rcl.train.features import encode_source, encoder_of, state_of
from jax_rcl.train.plan import refusals, sources_of

DESCRIPTION = """\
Encodes a source once by a trained run and writes the features to a file that
`data.prior.WithPrior` reads: `prior` [m, f], and where the source has them `labels` (or
targets) and `names`, by which a wrong order is found later.

The source is the one that the run was trained on, or that of another config. Images are
encoded in inference mode, without augmentation; what the run's evaluators do to the
images of its own source before that, such as a resize and a crop, is done here, too.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status, see `work.status_of`."""
    arguments, rest = read_arguments(argv)
    return exit_status(lambda: prepare(arguments, rest))


def read_arguments(
    argv: Sequence[str] | None,
) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and what is left for overrides."""
    parser = argparse.ArgumentParser(
        prog="jax-rcl prepare features",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="a workdir")
    parser.add_argument("--layer", default="features", help="of its encoder (features)")
    parser.add_argument("--which", choices=get_args(Which), default="newest")
    parser.add_argument(
        "--config", help="file.py or file.py:options with another source than the run's"
    )
    parser.add_argument(
        "--part",
        default="source",
        help="path of the source in the config, such as evaluators.probe.test (source)",
    )
    parser.add_argument("--split", help="sets the field `split` of the source")
    parser.add_argument(
        "--preprocess",
        choices=("evaluators", "none"),
        default="evaluators",
        help="what is done to the images: as the run's evaluators do, or nothing",
    )
    parser.add_argument("--batch_size", type=int, default=256, help="in a call (256)")
    add_out(parser)
    return parser.parse_known_args(argv)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds the flags about the file to write."""
    parser.add_argument("--out", required=True, metavar="FILE.npz")
    parser.add_argument(
        "--overwrite", action="store_true", help="even if the file is there"
    )


def prepare(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Writes the features of one source.

    Raises:
      ConfigError: the run, the source or the layer cannot work, or the file is there.
    """
    out = free_file(arguments)
    if arguments.batch_size < 1:
        raise ConfigError(f"--batch_size is {arguments.batch_size}; write 1 or more.")
    workdir = Path(arguments.run).expanduser().absolute()
    step, _ = state_of(workdir, arguments.which)
    if arguments.config:
        config = configs.load(arguments.config, read_overrides(rest))
    elif rest:
        raise ConfigError(
            f"{rest[0]} goes with --config: the source of a run stays as it was, but "
            f"for --split."
        )
    else:
        config = stored_config(workdir)
    source = source_in(config, arguments.part, arguments.split)
    preprocess, why = None, ""
    if arguments.preprocess == "evaluators":
        preprocess, why = preprocess_of(stored_config(workdir))
    run, encode = encoder_of(workdir, arguments.which)
    with refusals("--run"):
        rows = encode_source(
            run,
            encode,
            source,
            layer=arguments.layer,
            preprocess=preprocess,
            batch_size=arguments.batch_size,
        )
    print(write_prior(out, source, rows))
    print(
        f"layer {arguments.layer!r} of {arguments.run}, {arguments.which} checkpoint, "
        f"step {step}; preprocess: {preprocess}{why}."
    )
    return 0


def preprocess_of(config: ConfigDict) -> tuple[Operation | None, str]:
    """What a run's evaluators do to the images of its training source, and a reason.

    None where they do nothing, do not look at it, or disagree.
    """
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


def source_in(config: ConfigDict, part: str, split: str | None = None) -> Source:
    """The source at a path of a config, without what gives it a prior.

    That is around the whole of a source, so it is asked for what is inside of it.

    Raises:
      ConfigError: there is none, or it has no `split` to set.
    """
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
    source: Any = configs.build(part_of(config, part), part)
    if not is_a(source, Source):
        raise ConfigError(
            f"--part={part} is {type(source).__name__}, not a source of records such "
            f"as `source` or `evaluators.probe.test`."
        )
    return bare(source)


def bare(source: Source) -> Source:
    """What is inside of the innermost `WithPrior` or the like; else the source."""
    inner: Any = source
    while inner is not None:
        if isinstance(inner, Informed):
            source = inner.source
        inner = getattr(inner, "source", None)
    return source


def free_file(arguments: argparse.Namespace) -> Path:
    """The file to write.

    Raises:
      ConfigError: it is there already, or has another suffix than .npz.
    """
    out = Path(arguments.out).expanduser()
    if out.suffix != ".npz" or out.is_dir():
        raise ConfigError(f"--out {out} must be a file, FILE.npz.")
    if out.exists() and not arguments.overwrite:
        raise ConfigError(
            f"--out {out} is there already; write --overwrite, or choose another."
        )
    return out


def write_prior(
    out: Path, source: Source, rows: Float32[np.ndarray, "m p"], **more: np.ndarray
) -> str:
    """Writes the prior file of a source, whole or not at all; says what is in it.

    `more` are arrays for people to read, such as what the columns mean.

    Raises:
      ConfigError: the labels or names of the source cannot be told.
    """
    arrays: dict[str, np.ndarray] = {"prior": rows}
    with refusals("source"):
        if "label" in source[0]:
            arrays["labels"] = labels_of(source)
        elif (targets := getattr(source, "all_targets", None)) is not None:
            arrays["labels"] = np.asarray(targets, np.float32)
        if names := names_of(source):
            arrays["names"] = np.array(names, dtype=str)
    arrays |= more
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as partial, partial.open("wb") as file:
        # Not compressed, so that it can be mapped.
        np.savez(file, allow_pickle=False, **arrays)
    said = ", ".join(f"{k} {list(x.shape)}" for k, x in arrays.items())
    size = tqdm.tqdm.format_sizeof(out.stat().st_size, "B")
    return f"{out}: {said}; {size}."
