"""Evaluators: they see an encoder and their own data, nothing else."""
