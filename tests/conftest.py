"""Every test sees 8 CPU devices, strict dtypes and ranks; warnings are errors."""

import os
import tempfile

os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_RCL_TEST_PLATFORM", "cpu")

import jax
from hypothesis.configuration import set_hypothesis_home_dir

if os.environ["JAX_PLATFORMS"] == "cpu":
    jax.config.update("jax_num_cpu_devices", 8)
# XLA compiles three times faster without them; speed is measured by the benchmark.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# A program that several tests need is compiled once.
cache = tempfile.TemporaryDirectory(prefix="jax_rcl_tests_")
jax.config.update("jax_compilation_cache_dir", cache.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
# Nothing is left behind in the checkout.
set_hypothesis_home_dir(cache.name)
