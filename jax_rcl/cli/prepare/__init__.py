"""Commands that prepare data once: `jax-rcl prepare NAME --help`."""
