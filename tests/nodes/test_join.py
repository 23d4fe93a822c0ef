"""The demo model continues a clip of its own: the first new frame joins without a jump."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import same_rng

PROMPT = "red circle moving left, camera pans right, blue hills"
CHUNKS, LARGEST_JOIN = 3, 1.5


class DemoHarness:
    """The shipped models and the nodes around them."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        import comfy.samplers

        self.nodes = nodes
        bare, clip, self.vae = self.run("AdaStateLoadDemo")
        (self.model,) = self.run("AdaStateApply", bare, "adaptive", 3, 3, 1, 3)
        with torch.inference_mode():
            self.positive, self.negative = (
                clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (PROMPT, "")
            )
        self.sampler = comfy.samplers.sampler_object("euler")
        sampling = self.model.get_model_object("model_sampling")
        self.sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", 4)

    def run(self, node_id: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        node = self.nodes[node_id].PREPARE_CLASS_CLONE({"hidden_inputs": {}})
        with torch.inference_mode(), same_rng():
            return node.execute(*args, **kwargs).args

    def stream(self, seed: int, chunks: int, start: dict[str, Any] | None = None) -> dict[str, Any]:
        latent: dict[str, Any] = self.streamed(seed, chunks, start)[1]
        return latent

    def streamed(
        self, seed: int, chunks: int, start: dict[str, Any] | None = None, size: int = 8
    ) -> tuple[Any, Any]:
        """Return the stream, and the frames of its new chunks."""
        empty = {"samples": torch.zeros((1, 16, 1, size, size))}
        (state,) = self.run("AdaStateNewStream", empty, 0, start)
        return self.run(  # type: ignore[return-value]
            "AdaStateStream",
            self.model,
            state,
            positive=self.positive,
            negative=self.negative,
            cfg=2.0,
            sampler=self.sampler,
            sigmas=self.sigmas,
            seed=seed,
            chunks=chunks,
        )

    def frames(self, *latents: dict[str, Any]) -> Tensor:
        """Decode latents as one video, (T, H, W, 3) in [0, 1]."""
        with torch.inference_mode():
            video = torch.cat([latent["samples"] for latent in latents], dim=2)
            return self.vae.decode(video)[0].float()


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any]) -> DemoHarness:
    return DemoHarness(node_classes)


def join_over_median(frames: Tensor, before: int) -> float:
    """Compare the step to the first new frame with the usual step of the clip before it."""
    steps = (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3))
    return float(steps[before - 1] / steps[: before - 1].median())


@pytest.mark.newest
def test_a_stream_joins_the_clip_it_continues(harness: DemoHarness) -> None:
    clip = harness.stream(seed=7, chunks=CHUNKS)
    before = 4 * (3 * CHUNKS - 1) + 1
    continued = harness.frames(clip, harness.stream(seed=107, chunks=1, start=clip))
    assert join_over_median(continued, before) <= LARGEST_JOIN
    # A stream that has not seen the clip jumps (2.6 times), so the measure can fail.
    strange = harness.frames(clip, harness.stream(seed=107, chunks=1))
    assert join_over_median(strange, before) > LARGEST_JOIN
