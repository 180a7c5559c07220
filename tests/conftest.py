"""Every test sees 8 CPU devices, strict dtypes and ranks; warnings are errors."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_RCL_TEST_PLATFORM", "cpu")
# XLA compiles our programs several times faster with its older emitter and without
# cutting them for threads. Your own XLA_FLAGS (an empty one, too) take the place
# of these; an XLA that does not know a flag would end the process. That of jaxlib 0.12
# has no such emitter, and nothing it has instead made it faster.
if os.environ["JAX_PLATFORMS"] == "cpu" and version("jaxlib").startswith("0.10."):
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    )

import jax
from hypothesis.configuration import set_hypothesis_home_dir

CACHE = Path(__file__).parents[1] / ".pytest_cache"
"""Kept between runs and ignored by git."""

if os.environ["JAX_PLATFORMS"] == "cpu":
    jax.config.update("jax_num_cpu_devices", 8)
# XLA compiles three times faster without them; speed is measured by the benchmarks.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# What takes long is compiled once for all processes and runs of the tests; to store the
# rest takes longer than to compile it. The limit makes JAX lock the folder, so that no
# process reads what another has half written.
if not jax.config.values["jax_compilation_cache_dir"]:
    jax.config.update("jax_compilation_cache_dir", str(CACHE / "programs"))
jax.config.update("jax_compilation_cache_max_size", 4 * 2**30)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
# Tracing makes many objects and few cycles: looking for cycles is a tenth of its time.
gc.set_threshold(200_000, 50, 100)
set_hypothesis_home_dir(CACHE / "hypothesis")
