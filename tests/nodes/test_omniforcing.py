"""OmniForcing against the method written out, on ComfyUI's LTX-2.

The model is told where each latent stands in the whole clip, and every attention that looks at
video or sound has the keys and values of all past chunks in front, as they were made.
"""

from __future__ import annotations

import importlib
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness
from tests.support.sound_streams import HEIGHT, WIDTH, empty_ltx2, ltx2_step, ltx2_text
from tests.support.tiny_models import LTX2

SIGMAS, SEED, RATE, F, CHUNKS = (1.0, 0.909, 0.725, 0.421, 0.0), 3, 24, 3, 7
WINDOW = 5  # chunks
CALLS, OF_TEXT = 6, (1, 3)  # of a block, and those that look at text
Rows = list[tuple[Tensor, Tensor]]


@pytest.fixture
def harness(node_classes: dict[str, Any], tiny_models: Any, monkeypatch: Any) -> NodeHarness:
    """Return the model, whose angles of up to 15,700 radians are computed in float64."""
    module = importlib.import_module("comfy.ldm.lightricks.model")
    own = module.generate_freqs
    exact = lambda i, at, *rest: own(i.double(), at.double(), *rest)  # noqa: E731
    monkeypatch.setattr(module, "generate_freqs", exact)
    return NodeHarness(node_classes, LTX2)


class Line:
    """The model with every latent at its place in the clip."""

    def __init__(self, harness: NodeHarness) -> None:
        import comfy.model_management

        comfy.model_management.load_models_gpu([harness.bare])
        self.dit = harness.bare.get_model_object("diffusion_model")
        self.text = self.dit.preprocess_text_embeds(ltx2_text(0)[0][0], unprocessed=True)

    def __call__(
        self, tracks: list[Tensor], sigma: float, first: tuple[int, int], past: list[Rows]
    ) -> tuple[list[Tensor], Rows]:
        """Return the prediction, and keys and values of each call that looks at video or sound.

        Args:
            tracks: Video and sound.
            sigma: Noise level.
            first: The latent frame and the latent of sound at which they begin.
            past: Keys and values of past chunks.
        """
        positions, written, count = self.dit._prepare_positional_embeddings, [], [0]

        def placed(coords: Any, *rest: Any) -> Any:
            video, sound = (x.double() for x in coords)
            frames = first[0] + torch.arange(F).repeat_interleave(HEIGHT * WIDTH)
            ticks = first[1] + torch.arange(tracks[1].shape[2])
            video[:, 0] = torch.stack((8 * frames - 7, 8 * frames + 1), dim=-1)
            sound[:, 0] = torch.stack((4 * ticks - 3, 4 * ticks + 1), dim=-1) / 100
            return positions([video, sound], *rest)

        def attention(func: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
            number, count[0] = count[0] % CALLS, count[0] + 1
            if number in OF_TEXT:
                return func(q, k, v, *args, **kwargs)
            at = len(written)
            written.append((k.clone(), v.clone()))
            seen = [*(rows[at] for rows in past), (k, v)]
            return func(q, *(torch.cat(x, 1) for x in zip(*seen, strict=True)), *args, **kwargs)

        options = {"optimized_attention_override": attention}
        levels = (torch.tensor([sigma]),) * 2
        self.dit._prepare_positional_embeddings = placed
        try:
            out = self.dit(tracks, levels, self.text, None, RATE, options)
        finally:
            del self.dit._prepare_positional_embeddings
        return out, written


def written_out(
    harness: NodeHarness, core: Any, ticks: list[int], window: int = WINDOW
) -> list[list[Tensor]]:
    noise_of = importlib.import_module(f"{core.__name__}.rollout.noise").BlockNoise
    kept: list[Rows] = []
    made = []
    with torch.inference_mode():
        line = Line(harness)
        for k, heard in enumerate(ticks):
            first, past = (F * k, sum(ticks[:k])), kept[max(0, k - window) :]
            noise = noise_of(SEED, k, (1, 128, F, HEIGHT, WIDTH), 0, (1, 8, heard, 16))
            tracks = list(noise.initial().tracks)
            for sigma, following in pairwise(SIGMAS):
                out, _ = line(tracks, sigma, first, past)
                tracks = [x - sigma * o for x, o in zip(tracks, out, strict=True)]
                if following:
                    fresh = noise.renoise(tracks[0]).tracks
                    both = zip(tracks, fresh, strict=True)
                    tracks = [(1 - following) * x + following * n for x, n in both]
            made.append(tracks)
            kept.append(line(tracks, 0.0, first, past)[1])
    return made


def furthest(a: list[list[Tensor]], b: list[list[Tensor]]) -> float:
    pairs = [p for one, two in zip(a, b, strict=True) for p in zip(one, two, strict=True)]
    return max(float((x - y).abs().max()) for x, y in pairs)


def test_omniforcing_equals_the_method_written_out(harness: NodeHarness, core: Any) -> None:
    import comfy.samplers

    (model,) = harness.run(
        "AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3, preset="omniforcing"
    )
    (state,) = harness.run("AdaStateNewStream", empty_ltx2(), 0)
    state, _ = ltx2_step(
        harness,
        model,
        state,
        CHUNKS,
        seed=SEED,
        positive=ltx2_text(0, frame_rate=RATE),
        sampler=comfy.samplers.sampler_object("lcm"),
        sigmas=torch.tensor(SIGMAS),
    )
    made = [[chunk.content, chunk.sound] for chunk in state.chunks]
    ticks = [chunk.sound.shape[2] for chunk in state.chunks]
    assert set(ticks) == {25, ticks[0]}
    expected = written_out(harness, core, ticks)
    assert furthest(made, expected) < 1e-4
    # The negative control: one chunk less in view.
    assert furthest(written_out(harness, core, ticks, WINDOW - 1), expected) > 1e-2
