"""CONDITIONING sockets as recorded values, and back: what an image-to-video node adds included."""

from __future__ import annotations

from typing import Any

import torch
from comfy.clip_vision import Output as ClipVisionOutput
from torch import Tensor

from ...adastate_core.stream.conditioning import Conditioning
from ...adastate_core.transfer import sent

_VISION, _IMAGE, _MASK = "clip_vision_output", "concat_latent_image", "concat_mask"


def record(conditioning: list[Any]) -> Conditioning:
    """Record a conditioning of one entry.

    Raises:
        ConfigError: If it holds something that is no plain data; names it.
    """
    text, extras = conditioning[0]
    seen = extras.get(_VISION)
    if isinstance(seen, ClipVisionOutput):
        extras = {**extras, _VISION: dict(vars(seen))}
    return Conditioning.pack([[text, extras]])


def restore(recorded: Conditioning, frames: int) -> list[Any]:
    """Return a recorded conditioning as the host takes it.

    Args:
        recorded: The record.
        frames: Frames of a block. An image for every frame is continued by its last one up to
            them, since the host joins it to a whole block.
    """
    value: Any = recorded.unpack()
    text, extras = value[0]
    if _VISION in extras:
        seen = ClipVisionOutput()
        for name, part in extras[_VISION].items():
            seen[name] = part
        extras = {**extras, _VISION: seen}
    if _IMAGE in extras:
        extras = {**extras, **_lengthen(extras[_IMAGE], extras.get(_MASK), frames)}
    return [[text, extras]]


def bring(entries: list[dict[str, Any]], device: torch.device) -> None:
    """Bring what the host made of a conditioning to a device, for all forwards of a session.

    The host does so in every forward, and a card waits for it.

    Args:
        entries: Entries of a conditioning as an open session has them; changed.
        device: Where the model computes.
    """
    for entry in entries:
        entry["model_conds"] = {
            name: cond._copy_with(sent(cond.cond, device))
            if isinstance(getattr(cond, "cond", None), Tensor) and hasattr(cond, "_copy_with")
            else cond
            for name, cond in entry.get("model_conds", {}).items()
        }


def has_image(conditioning: list[Any]) -> bool:
    """Say whether a conditioning gives an image with every frame."""
    return all(_IMAGE in entry[1] for entry in conditioning)


def _lengthen(image: Tensor, mask: Tensor | None, frames: int) -> dict[str, Tensor]:
    """Bring an image and its mask, (B, C, T, H, W), to the same length, at least `frames`."""
    if mask is None:  # 1 marks what is not given
        mask = image.new_ones((image.shape[0], 1, *image.shape[2:]))
    frames = max(frames, image.shape[2], mask.shape[2])
    return {_IMAGE: pick_frames(image, 0, frames), _MASK: pick_frames(mask, 0, frames)}


def pick_frames(x: Tensor, first: int, count: int) -> Tensor:
    """Take frames of (B, C, T, H, W); the first and the last are repeated beyond the ends."""
    wanted = torch.arange(first, first + count, device=x.device).clamp(0, x.shape[2] - 1)
    return x.index_select(2, wanted)
