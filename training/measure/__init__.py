"""Measures streams of the panorama: a reader of latents, figures with intervals, and controls."""
