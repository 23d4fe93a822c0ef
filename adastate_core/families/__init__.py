"""Model families: one descriptor a file, found through a literal registry."""

from __future__ import annotations

from ..errors import UnsupportedFamilyError
from .cosmos import CosmosPredict2Family
from .family import Family, ModelTraits
from .hunyuan import HunyuanVideoFamily
from .kandinsky import Kandinsky5Family
from .ltxv import LtxVideoFamily
from .mochi import MochiFamily
from .wan import WanFamily

FAMILIES: tuple[Family, ...] = (
    WanFamily(),
    CosmosPredict2Family(),
    Kandinsky5Family(),
    LtxVideoFamily(),
    HunyuanVideoFamily(),
    MochiFamily(),
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


__all__ = ["FAMILIES", "Family", "ModelTraits", "describe_model"]
