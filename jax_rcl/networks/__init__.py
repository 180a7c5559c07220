"""Networks, in flax.linen; the names of submodules are the checkpoint format."""
