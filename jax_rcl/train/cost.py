"""The cost of a step, read from its compiled program before a long run is started."""

import dataclasses
import re
from typing import Any

import jax
from ml_collections import ConfigDict

from jax_rcl import parallel
from jax_rcl.report.tables import overview, size
from jax_rcl.train.batches import compile_step, place_data
from jax_rcl.train.run import Run
from jax_rcl.train.state import fresh_state

PEAK_FLOPS = {
    "A100": 312e12,
    "H100": 989e12,
    "H100 PCIe": 756e12,
    "H200": 989e12,
    "L4": 121e12,
    "L40S": 362e12,
    "RTX A6000": 155e12,
    "T4": 65e12,
    "TPU v3": 61.5e12,  # a device is one of the two cores of a chip
    "TPU v4": 275e12,
    "TPU v5": 459e12,  # what JAX calls a v5p
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "V100": 125e12,
}
"""Dense bfloat16 or float16 operations per second of one device, from data sheets."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What XLA says of the compiled step, for one device."""

    compile_seconds: float
    flops: float | None  # of one update, where XLA says it
    temporary_bytes: int
    argument_bytes: int  # the state, the data set if it is laid out, and a batch


def cost_of(compiled: Any, seconds: float) -> Cost:
    """Reads the cost of a compiled step, which took so long to compile."""
    flops = (compiled.cost_analysis() or {}).get("flops")
    memory = compiled.memory_analysis()
    return Cost(
        compile_seconds=seconds,
        flops=flops if flops and flops > 0 else None,
        temporary_bytes=memory.temp_size_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
    )


def peak_flops() -> float | None:
    """Most operations per second of one device; None if not known."""
    name = parallel.device_name()
    # Whole words: an L40S is not an L4. The longest: a TPU v5 lite is not a TPU v5.
    fitting = [known for known in PEAK_FLOPS if re.search(rf"\b{known}\b", name, re.I)]
    return PEAK_FLOPS[max(fitting, key=len)] if fitting else None


def describe(config: ConfigDict) -> str:
    """Builds, checks and compiles everything, and says what it would cost.

    Nothing is trained or written.
    """
    run = Run.prepare(config, "unused")
    state = fresh_state(run)
    data = place_data(run)
    compiled, seconds = compile_step(run, state, data)
    cost, plan = cost_of(compiled, seconds), run.plan
    data_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(data))
    batch = ", ".join(
        f"{key} {list(x.shape)} {x.dtype}" for key, x in plan.augmented.items()
    )
    rows = {
        "devices": f"{run.mesh.size} × {parallel.device_name()}",
        "examples": f"{len(run.experiment.source):,}",
        "steps": f"{plan.total_steps:,} ({plan.steps_per_epoch:,} in an epoch)",
        "batch": batch,
        "data set": f"laid out, {size(data_bytes)}" if plan.resident else "streamed",
        "compile time": f"{cost.compile_seconds:.1f} s",
        "FLOPs of a step": "not known" if cost.flops is None else f"{cost.flops:.4g}",
        "memory of a step": f"{size(cost.temporary_bytes)} of temporaries, "
        f"{size(cost.argument_bytes)} of arguments on each device",
    }
    lines = [f"{name + ':':<18}{text}" for name, text in rows.items()]
    return "\n".join([overview(state.variables), *lines])
