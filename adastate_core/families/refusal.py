"""Refuse a variant of a family by name and reason."""

from __future__ import annotations

from typing import NoReturn

from ..errors import UnsupportedFamilyError


def refuse(name: str, reason: str, served: str) -> NoReturn:
    """Raise the error for a model that is known and cannot be streamed."""
    raise UnsupportedFamilyError(
        "model",
        seen=f"{name} ({reason})",
        expected=served,
        remedy="load text-to-video weights in Load Streaming Model",
    )
