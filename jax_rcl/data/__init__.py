"""Data sets and the order in which training sees them, on the host."""
