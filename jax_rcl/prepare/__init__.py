"""Commands that prepare data once: `python -m jax_rcl.prepare.<name> --help`."""
