"""Every test sees 8 CPU devices, strict dtypes and ranks; warnings are errors."""

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_RCL_TEST_PLATFORM", "cpu")

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
# A program is compiled once for all processes and runs of the tests: compilation is
# most of their time. The limit makes JAX lock the folder, so that no process reads what
# another has half written.
if not jax.config.values["jax_compilation_cache_dir"]:
    jax.config.update("jax_compilation_cache_dir", str(CACHE / "programs"))
jax.config.update("jax_compilation_cache_max_size", 4 * 2**30)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
set_hypothesis_home_dir(CACHE / "hypothesis")
