"""Classifiers on images that are corrupted, drawn, restyled or distorted."""
