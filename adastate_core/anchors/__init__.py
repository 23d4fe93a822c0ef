"""Anchor policies: one file each, chosen by name from a literal table."""

from __future__ import annotations

from ..config import StreamConfig
from .adaptive import AdaptiveAnchor
from .dual_ema import DualEmaAnchor
from .ema import EmaAnchor
from .frozen import FrozenAnchor
from .none import NoAnchor
from .policy import AnchorPolicy
from .rolling import RollingAnchor

POLICIES: dict[str, AnchorPolicy] = {
    "adaptive": AdaptiveAnchor(),
    "frozen": FrozenAnchor(),
    "ema": EmaAnchor(),
    "dual_ema": DualEmaAnchor(),
    "rolling": RollingAnchor(),
    "none": NoAnchor(),
}


def policy_for(config: StreamConfig) -> AnchorPolicy:
    """Return the policy that a config asks for.

    An adaptive anchor of zero state frames is no anchor at all, so it is served by that policy.
    """
    if config.anchor == "adaptive" and config.state_frames == 0:
        return POLICIES["none"]
    return POLICIES[config.anchor]


def policy_for_block(config: StreamConfig, has_state: bool) -> AnchorPolicy:
    """Return the policy that commits a block; one without a state needs one that expects none."""
    policy = policy_for(config)
    return POLICIES["none"] if policy.state_frames(config) and not has_state else policy


__all__ = ["POLICIES", "AnchorPolicy", "policy_for", "policy_for_block"]
