"""The subcommands of `jax-rcl`."""
