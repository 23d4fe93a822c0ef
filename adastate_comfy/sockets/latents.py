"""LATENT sockets and the model space in which a stream records its latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.latent_formats
import comfy.model_management
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ...adastate_core.errors import LayoutError
from ...adastate_core.stream.events import GivenLatentsEvent
from ...adastate_core.stream.state import StreamState


def video_samples(latent: io.Latent.Type, source: str) -> Tensor:
    """Return the samples of a video LATENT, (B, C, T, H, W).

    Raises:
        LayoutError: If it is no video latent, or carries a noise mask.
    """
    samples: Tensor = latent["samples"]
    if getattr(samples, "is_nested", False) or samples.ndim != 5:
        raise LayoutError(
            f"latent of {source}",
            problem=f"the latent of {source} is a picture, not a video",
            seen=f"{getattr(samples, 'ndim', 'nested')} dimensions",
            expected="5 (batch, channels, frames, height, width)",
            remedy="use an empty video latent, or encode with the VAE of a video model",
        )
    if "noise_mask" in latent:
        raise LayoutError(
            f"latent of {source}",
            problem=f"the latent of {source} has a mask, and every chunk starts from noise",
            seen="a noise mask",
            expected="no mask, since every chunk starts from noise",
            remedy="remove Set Latent Noise Mask",
        )
    return samples


def image_size(latent_shape: tuple[int, int, int, int], form: str) -> tuple[int, int]:
    """Return width and height of the images of latents, as far as their format says.

    Args:
        latent_shape: (B, C, H, W) of one latent frame.
        form: Name of the latent format, or an empty text.
    """
    scale = latent_format(form).spacial_downscale_ratio if form else 8
    return latent_shape[3] * scale, latent_shape[2] * scale


def samples_for(state: StreamState, latent: io.Latent.Type, source: str) -> Tensor:
    """Return the samples of a video LATENT in the space that a stream records its latents in."""
    samples = video_samples(latent, source)
    if not state.latent_format:
        return samples
    converted: Tensor = latent_format(state.latent_format).process_in(samples)
    return converted


def latent_or_block(
    state: StreamState, latents: Tensor | None
) -> io.Latent.Type | ExecutionBlocker:
    """Make a LATENT of recorded latents; None quietly leaves out the nodes that are wired to it."""
    return ExecutionBlocker(None) if latents is None else from_model_space(state, latents)


def from_model_space(state: StreamState, latents: Tensor) -> io.Latent.Type:
    """Make a LATENT of recorded latents; before the first chunk they are in VAE space anyway."""
    form = state.latent_format
    out = latent_format(form).process_out(latents) if form else latents
    device = comfy.model_management.intermediate_device()
    return {"samples": out.to(device, copy=out is latents)}  # the record stays its own


def into_model_space(state: StreamState, model: ModelPatcher) -> StreamState:
    """Note the latent format of a model and convert latents that were given before it."""
    if state.latent_format:
        return state
    form = model.get_model_object("latent_format")
    events = state.events
    for position, event in enumerate(events):
        if isinstance(event, GivenLatentsEvent) and event.raw:
            events = events.replaced(position, _convert(event, form))
    return replace(state, latent_format=type(form).__name__, events=events)


def latent_format(name: str) -> Any:
    """Make the latent format that a stream was recorded in.

    Raises:
        LayoutError: If this ComfyUI has no format of that name.
    """
    form = getattr(comfy.latent_formats, name, None)
    if form is None:
        raise LayoutError(
            "latent format of the stream",
            problem=f"this ComfyUI does not know the model of this stream ({name})",
            seen=repr(name),
            expected="a format of this ComfyUI",
            remedy="update ComfyUI",
        )
    return form()


def _convert(event: GivenLatentsEvent, form: Any) -> GivenLatentsEvent:
    return replace(
        event,
        raw=False,
        state=form.process_in(event.state) if event.state is not None else None,
        content=form.process_in(event.content) if event.content is not None else None,
    )
