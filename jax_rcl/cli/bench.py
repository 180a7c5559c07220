"""Measures training as it runs: `jax-rcl bench --config=configs/….py`."""

import argparse
import dataclasses
import json
import resource
import sys
import time

import jax
from ml_collections import ConfigDict

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.cli.shared import Command, Parser, positive
from jax_rcl.config.types import ConfigError
from jax_rcl.report.tables import size
from jax_rcl.train import run as training
from jax_rcl.train.batches import compile_step, feed_calls, place_data
from jax_rcl.train.cost import cost_of, peak_flops
from jax_rcl.train.state import fresh_state

DESCRIPTION = """\
Times training as a config sets it up, and prints a table and one line of JSON.

Fields of the config can be changed: --config.batch_size=512.
"""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one run of the benchmark found.

    Attributes:
      examples_per_second: examples (not views), over all devices.
      data_wait: share of the time in which the host waited for data.
      peak_bytes: most memory in use on one device, or by this process on a CPU.
      flops_per_step: of one device, as XLA counts them; None where it does not.
      fraction_of_peak: FLOPs a second as a share of the device's data-sheet bfloat16
        peak; None where that is not known.
    """

    device: str
    devices: int
    batch_size: int
    resident: bool
    steps_per_call: int
    steps: int
    compile_seconds: float
    step_seconds: float
    examples_per_second: float
    data_wait: float
    peak_bytes: int
    flops_per_step: float | None
    fraction_of_peak: float | None


def measure(config: ConfigDict, *, steps: int, warmup: int) -> Measurement:
    """Times `steps` updates after `warmup` ones, as the training loop would run them.

    `config` is a node of `config.Experiment`; steps are rounded up to whole calls.
    """
    config = configs.from_json(configs.to_json(config))  # the caller's stays as it is
    with config.unlocked():  # calls of full length, without pauses in between
        config.evaluators, config.save_every = ConfigDict(), sys.maxsize
        config.best = None
    prepared = training.Run.prepare(config, "unused")
    most = prepared.experiment.steps_per_call
    needed = (-(-warmup // most) + -(-steps // most)) * most
    if needed > prepared.plan.total_steps:
        raise ConfigError(
            f"the run has {prepared.plan.total_steps} steps, fewer than the {warmup} "
            f"to warm up and {steps} to time in calls of {most}; give fewer --steps, "
            "or more epochs."
        )
    state = fresh_state(prepared)
    data = place_data(prepared)
    compiled, compile_seconds = compile_step(prepared, state, data)
    cost = cost_of(compiled, compile_seconds)

    began, waited, timed, done, metrics = 0.0, 0.0, 0, 0, []
    for count, own_count, batches, seconds in feed_calls(prepared, 0, data):
        if done >= warmup and not began:
            jax.block_until_ready(state)
            began, seconds = time.perf_counter(), 0.0
        if began:
            waited, timed = waited + seconds, timed + count
        state, latest = compiled(state, own_count, data, batches)
        metrics.append(latest)
        if len(metrics) > 2:  # as far ahead as the training loop goes
            jax.block_until_ready(metrics.pop(0))
        done += count
        if timed >= steps:
            break
    jax.block_until_ready(state)
    elapsed = time.perf_counter() - began

    step_seconds, peak = elapsed / timed, peak_flops()
    fraction = cost.flops / step_seconds / peak if peak and cost.flops else None
    used = parallel.memory_stats(prepared.mesh)
    return Measurement(
        device=parallel.device_name(),
        devices=prepared.mesh.size,
        batch_size=prepared.experiment.batch_size,
        resident=prepared.plan.resident,
        steps_per_call=prepared.experiment.steps_per_call,
        steps=timed,
        compile_seconds=compile_seconds,
        step_seconds=step_seconds,
        examples_per_second=prepared.experiment.batch_size / step_seconds,
        data_wait=waited / elapsed,
        peak_bytes=used.get("peak_bytes_in_use") or process_bytes(),
        flops_per_step=cost.flops,
        fraction_of_peak=fraction,
    )


def process_bytes() -> int:
    """Most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # KiB on Linux


def table(found: Measurement) -> str:
    """The measurement for a person to read."""
    flops, fraction = found.flops_per_step, found.fraction_of_peak
    rows = {
        "devices": f"{found.devices} × {found.device}",
        "batch": f"{found.batch_size} examples",
        "data set": "laid out" if found.resident else "streamed",
        "steps per call": str(found.steps_per_call),
        "compile time": f"{found.compile_seconds:.1f} s",
        "step": f"{1000 * found.step_seconds:.1f} ms (mean of {found.steps})",
        "examples/s": f"{found.examples_per_second:,.0f}",
        "data wait": f"{100 * found.data_wait:.2f} % of a step",
        "peak memory": size(found.peak_bytes),
        "FLOPs of a step": "not known" if flops is None else f"{flops:.4g}",
        "of peak FLOP/s": "not known"
        if fraction is None
        else f"{100 * fraction:.1f} %",
    }
    return "\n".join(f"{name + ':':<18}{text}" for name, text in rows.items())


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    parser.flag("config", "file.py or file.py:options", required=True)
    parser.flag("steps", "updates to time", type=positive, default=50)
    parser.flag("warmup", "updates before them", type=positive, default=5)


def run(arguments: argparse.Namespace) -> None:
    """Prints the table and then one line of JSON."""
    config = configs.load(arguments.config, arguments.overrides)
    found = measure(config, steps=arguments.steps, warmup=arguments.warmup)
    print(table(found))
    print(json.dumps(dataclasses.asdict(found)), flush=True)


main = Command("bench", DESCRIPTION, add_flags, run)
