"""A painted panorama for training: a camera travels a ring of regions under one flying subject."""
