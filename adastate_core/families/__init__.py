"""Model families: one descriptor a file, found through a literal registry."""

from __future__ import annotations

from ..errors import UnsupportedFamilyError
from .cosmos import CosmosPredict2Family
from .family import Family, ModelTraits, SoundTraits
from .hunyuan import HunyuanVideoFamily
from .kandinsky import Kandinsky5Family
from .ltxav import Ltx2Family
from .ltxv import LtxVideoFamily
from .minimax import MiniMaxH3Family
from .mochi import MochiFamily
from .wan import WanFamily

FAMILIES: tuple[Family, ...] = (
    WanFamily(),
    CosmosPredict2Family(),
    Kandinsky5Family(),
    LtxVideoFamily(),
    HunyuanVideoFamily(),
    MochiFamily(),
    MiniMaxH3Family(),
    Ltx2Family(),
)


def describe_model(model: object) -> ModelTraits:
    """Describe a loaded video DiT.

    Args:
        model: The diffusion model module.

    Raises:
        UnsupportedFamilyError: If no family recognises it; lists those that are supported.
    """
    for family in FAMILIES:
        if family.matches(model):
            return family.describe(model)
    raise UnsupportedFamilyError(
        "model",
        problem=f"AdaState cannot stream this model ({type(model).__name__})",
        seen=type(model).__name__,
        expected=" or ".join(family.label for family in FAMILIES),
        remedy="load one of these in Load Streaming Model: "
        + "; ".join(family.label for family in FAMILIES),
    )


def sound_of(shape: tuple[int, ...]) -> SoundTraits | None:
    """Say what a sound is like by the shape of its latents; None if no family makes such."""
    sounds = (family.sound for family in FAMILIES)
    return next((sound for sound in sounds if sound is not None and sound.fits(shape)), None)


__all__ = ["FAMILIES", "Family", "ModelTraits", "SoundTraits", "describe_model", "sound_of"]
