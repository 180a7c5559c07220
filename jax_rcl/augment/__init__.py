"""Augmentations and distortions of one image, random on the device."""
