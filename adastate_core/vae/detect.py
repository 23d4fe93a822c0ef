"""VAEs of video and sound whose modules can run part by part, by the names of their classes."""

from __future__ import annotations

import inspect
from typing import Literal, NoReturn

from ..errors import UnsupportedFamilyError

VaeKind = Literal["wan_2_1", "wan_2_2", "taehv", "minimax_h3"]
SoundVaeKind = Literal["minimax_h3", "ltx_2"]

_CLASSES: tuple[tuple[str, str, VaeKind], ...] = (
    ("WanVAE", ".wan.vae", "wan_2_1"),
    ("WanVAE", ".wan.vae2_2", "wan_2_2"),
    ("TAEHV", ".taehv", "taehv"),
    ("MiniMaxH3VideoVAE", ".minimax.vae", "minimax_h3"),
)
_SOUND_CLASSES: tuple[tuple[str, str, SoundVaeKind], ...] = (
    ("MiniMaxH3AudioVAE", ".minimax.audio_vae", "minimax_h3"),
    ("AudioVAE", ".lightricks.vae.audio_vae", "ltx_2"),
)


def vae_kind(vae: object) -> VaeKind | None:
    """Say which VAE a module of the host is, or None if it is none of them."""
    kind = type(vae)
    for name, module, found in _CLASSES:
        if kind.__name__ == name and kind.__module__.endswith(module):
            return found
    return None


def sound_vae_kind(vae: object) -> SoundVaeKind | None:
    """Say which VAE of sound a module of the host is, or None if it is none of them."""
    kind = type(vae)
    for name, module, found in _SOUND_CLASSES:
        if kind.__name__ == name and kind.__module__.endswith(module):
            return found
    return None


def takes(module: object, *parameters: str) -> bool:
    """Say whether the forward of a module takes these parameters."""
    forward = getattr(module, "forward", None)
    return callable(forward) and set(parameters) <= set(inspect.signature(forward).parameters)


def refuse_vae(vae: object, remedy: str, *, known: bool) -> NoReturn:
    """Refuse a module that is none of these VAEs, or not as it was.

    Args:
        vae: The module.
        remedy: What to do instead.
        known: Whether a VAE of its class is served where its modules are as they were.

    Raises:
        UnsupportedFamilyError: Always.
    """
    kind = type(vae)
    changed = f"{kind.__name__} of another layout" if known else kind.__name__
    raise UnsupportedFamilyError(
        "vae",
        problem=f"this VAE is not one that can be used here ({changed})",
        seen=changed,
        expected="the VAE of Wan 2.1, Wan 2.2 or MiniMax H3, or a TAEHV",
        remedy=remedy,
    )
