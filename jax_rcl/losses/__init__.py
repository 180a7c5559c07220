"""Losses: pure functions of arrays, one value per row."""
