"""The names under which a run of ours and what is attached to its MODEL find each other."""

from __future__ import annotations

KEY = "adastate"
"""Attachments and wrappers of ours on a MODEL."""
VIEW = "adastate_view"
"""Transformer option with the `BlockAttention` of a run."""
FIRST_LAYER = "adastate_first_layer"
"""Transformer option with the number of the model's first layer, 0 unless models share a cache."""
ROLES = "adastate_roles"
"""Transformer option with the indices of the session's conditionings, by the ids of the host."""
KERNELS = "adastate_kernels"
"""Transformer option with the `KernelChoice` of a MODEL, if it is to use the fastest kernels."""
DEMO = "adastate_demo"
"""Attachment of a MODEL: it is the one that comes with this pack."""
