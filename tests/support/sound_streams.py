"""Streams with sound on tiny models of the real classes."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from tests.support.harness import NodeHarness
from tests.support.tiny_models import LTX2, LTX2_INTERLEAVED, LTX23, LTX25

HEIGHT, WIDTH, TEXT = 4, 6, 40


def has_minimax() -> bool:
    """Say whether this ComfyUI knows MiniMax H3, which came after 0.27."""
    return importlib.util.find_spec("comfy.ldm.minimax") is not None


def nested(video: torch.Tensor, sound: torch.Tensor) -> dict[str, Any]:
    """Return a LATENT of a video and its sound."""
    from comfy.nested_tensor import NestedTensor

    return {"samples": NestedTensor((video, sound))}


def empty_minimax(frames: int = 7, ticks: int = 36, *, sound: bool = True) -> dict[str, Any]:
    """Return the empty latent of MiniMax H3, as ComfyUI's own node makes it."""
    video = torch.zeros((1, 24, frames, HEIGHT, WIDTH))
    return nested(video, torch.zeros((1, 32, 2, ticks))) if sound else {"samples": video}


def minimax_text(seed: int, words: int = 7) -> list[Any]:
    """Return a conditioning of MiniMax H3."""
    source = torch.Generator().manual_seed(seed)
    return [[torch.randn((1, words, TEXT), generator=source), {}]]


def minimax_model(harness: NodeHarness, anchor: str = "adaptive", **options: Any) -> Any:
    """Return the model of a harness after Apply AdaState, in chunks of a pattern."""
    sizes = {"chunk_frames": 5, "window_frames": 5, "state_frames": 1, "anchor_frames": 5}
    (model,) = harness.run("AdaStateApply", harness.bare, anchor, **{**sizes, **options})
    return model


def minimax_step(harness: NodeHarness, model: Any, state: Any, chunks: int, **changes: Any) -> Any:
    """Make chunks with two steps of Euler's."""
    return _step(harness, model, state, chunks, **{"positive": minimax_text(0), **changes})


LTX2_WIDTHS = {LTX2: 48, LTX2_INTERLEAVED: 48, LTX23: 96, LTX25: 96}
"""Numbers of a text token, by the file that reads them."""


def empty_ltx2(
    frames: int = 4, ticks: int = 26, *, sound: bool = True, batch: int = 1
) -> dict[str, Any]:
    """Return the empty latent of LTX-2, as ComfyUI's own nodes make it."""
    video = torch.zeros((batch, 128, frames, HEIGHT, WIDTH))
    return nested(video, torch.zeros((batch, 8, ticks, 16))) if sound else {"samples": video}


def ltx2_text(seed: int, width: int = 48, words: int = 5, **extras: Any) -> list[Any]:
    """Return a conditioning of LTX-2, as its text encoder gives it."""
    source = torch.Generator().manual_seed(seed)
    text = torch.randn((1, words, width), generator=source)
    return [[text, {"unprocessed_ltxav_embeds": True, **extras}]]


def ltx2_model(harness: NodeHarness, anchor: str = "adaptive", **options: Any) -> Any:
    """Return the model of a harness after Apply AdaState."""
    sizes = {"chunk_frames": 3, "window_frames": 3, "state_frames": 1, "anchor_frames": 3}
    (model,) = harness.run("AdaStateApply", harness.bare, anchor, **{**sizes, **options})
    return model


def ltx2_step(harness: NodeHarness, model: Any, state: Any, chunks: int, **changes: Any) -> Any:
    """Make chunks with two steps of Euler's."""
    return _step(harness, model, state, chunks, **{"positive": ltx2_text(0), **changes})


def _step(harness: NodeHarness, model: Any, state: Any, chunks: int, **changes: Any) -> Any:
    import comfy.samplers

    sampling = model.get_model_object("model_sampling")
    inputs = {
        "cfg": 1.0,
        "seed": 3,
        "chunks": chunks,
        "sampler": comfy.samplers.sampler_object("euler"),
        "sigmas": comfy.samplers.calculate_sigmas(sampling, "simple", 2),
    }
    return harness.run("AdaStateStream", model, state, **{**inputs, **changes})
