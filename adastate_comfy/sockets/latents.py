"""LATENT sockets and the model space in which a stream records its latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.latent_formats
import comfy.model_management
from comfy.model_patcher import ModelPatcher
from comfy.nested_tensor import NestedTensor
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ...adastate_core.errors import LayoutError
from ...adastate_core.families import FAMILIES, SoundTraits, sound_of
from ...adastate_core.stream.events import GivenLatentsEvent
from ...adastate_core.stream.state import StreamState


def video_samples(latent: io.Latent.Type, source: str) -> Tensor:
    """Return the samples of a video LATENT, (B, C, T, H, W); of one with sound, those of the video.

    Raises:
        LayoutError: If it is no video latent, or carries a noise mask.
    """
    samples: Tensor = tracks_of(latent)[0]
    if samples.ndim != 5:
        raise LayoutError(
            f"latent of {source}",
            problem=f"the latent of {source} is a picture, not a video",
            seen=f"{samples.ndim} dimensions",
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


def tracks_of(latent: io.Latent.Type) -> list[Tensor]:
    """Return the tensors of a LATENT: the video, and the sound if it has one."""
    samples = latent["samples"]
    return list(samples.unbind()) if getattr(samples, "is_nested", False) else [samples]


def sound_samples(latent: io.Latent.Type, source: str) -> Tensor | None:
    """Return the sound of a LATENT, (B, C, T, R) with time on the third axis, or None.

    Raises:
        LayoutError: If it has other tracks than a video and a sound that is known.
    """
    tracks = tracks_of(latent)
    if len(tracks) == 1:
        return None
    form = sound_of(tuple(tracks[1].shape)) if len(tracks) == 2 else None
    if form is None:
        shapes = " and ".join(str(tuple(track.shape)) for track in tracks)
        raise LayoutError(
            f"latent of {source}",
            problem=f"the latent of {source} has sound of a kind that AdaState does not know",
            seen=shapes,
            expected="a video and its sound, as the empty latent of the model has them",
            remedy="connect the empty latent node of the model",
        )
    return form.from_model(tracks[1])


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
    state: StreamState, latents: Tensor | None, sound: Tensor | None = None
) -> io.Latent.Type | ExecutionBlocker:
    """Make a LATENT of recorded latents; None quietly leaves out the nodes that are wired to it."""
    return ExecutionBlocker(None) if latents is None else from_model_space(state, latents, sound)


def from_model_space(
    state: StreamState, latents: Tensor, sound: Tensor | None = None
) -> io.Latent.Type:
    """Make a LATENT of recorded latents; before the first chunk they are in VAE space anyway.

    Args:
        state: The stream.
        latents: Latents of its video.
        sound: Latents of the sound that goes with them, which are in VAE space, or None.
    """
    form = state.latent_format
    out = latent_format(form).process_out(latents) if form else latents
    device = comfy.model_management.intermediate_device()
    out = out.to(device, copy=out is latents)  # the record stays its own
    if sound is None or state.sound_shape is None:
        return {"samples": out}
    heard = of_sound(state).to_model(sound).to(device, copy=True)
    return {"samples": NestedTensor((out, heard))}


def of_sound(state: StreamState) -> SoundTraits:
    """Say what the sound of a stream is like.

    Raises:
        LayoutError: If this AdaState knows none such.
    """
    for family in FAMILIES:
        form = family.sound
        if form is not None and (form.channels, form.rows) == state.sound_shape:
            return form
    raise LayoutError(
        "sound of the stream",
        problem="this AdaState does not know the sound of this stream",
        seen=f"{state.sound_shape}",
        expected="that of a model which it knows",
        remedy="update AdaState",
    )


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
