"""Trains four anchors alike on the panorama: one base, then each with the layout it streams in."""
