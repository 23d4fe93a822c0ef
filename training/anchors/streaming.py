"""Streams latents from trained weights, many prompts at a time, to be measured.

The pack has its own engine; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from adastate_core.config import StreamConfig
from training import dit, text
from training.anchors.memory import EMA_RATE, Memory, anchor_config
from training.anchors.network import Network, Words
from training.anchors.runs import AVERAGE
from training.anchors.words import tokens
from training.dit import DitConfig, Params
from training.panorama.journey import HEIGHT, WIDTH
from training.panorama.prompts import Prompt
from training.rollout import Grid, draw_noise, shifted_sigmas
from training.train_dit import part

GRID: Grid = (HEIGHT // 8, WIDTH // 8)
SHIFT = 3.0
# What noise is for; a number of the old world's streams as well.
CONTENT, STATE = 0, 1


@dataclass(frozen=True, slots=True)
class Weights:
    """A trained DiT and its text encoder.

    Args:
        params: Parameters, those of the DiT and of the encoder, on the device to stream on.
        config: Sizes of the DiT.
        ema_rate: Rate of an averaged anchor in the training.
    """

    params: Params
    config: DitConfig
    ema_rate: float = EMA_RATE

    @classmethod
    def load(cls, path: Path, device: torch.device | None = None) -> Weights:
        """Read the average of a run, given the file or the folder of the run."""
        path = path / AVERAGE if path.is_dir() else path
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
        params = {n: v.float().to(device or "cpu") for n, v in load_file(path).items()}
        return cls(params, sizes(params), float(header.get("ema_rate", EMA_RATE)))

    @property
    def device(self) -> torch.device:
        return next(iter(self.params.values())).device


def sizes(params: Params) -> DitConfig:
    """Read the sizes of a DiT off its parameters."""
    layers = {name.split(".")[2] for name in params if name.startswith("dit.blocks.")}
    ffn = params["dit.blocks.0.ffn.0.weight"]
    words = params["dit.text_embedding.0.weight"]
    return DitConfig(ffn.shape[1], ffn.shape[0], len(layers), words.shape[1])


def embedded(weights: Weights, texts: Sequence[str]) -> Words:
    """Encode prompts and project them for the DiT."""
    ids, lengths = tokens(texts, weights.device)
    encoded = text.encode(part(weights.params, "text.", torch.float32), ids, lengths)
    return Words(*dit.embed_text(part(weights.params, "dit.", torch.float32), encoded, lengths))


@torch.no_grad()
def stream(
    weights: Weights,
    anchor: str,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    chunks: int,
    steps: int = 4,
    cfg: float = 1.0,
    grid: Grid = GRID,
) -> tuple[Tensor, Tensor | None]:
    """Stream chunks of a batch of prompts, each from its own seed.

    The noise of a chunk depends on (seed, chunk, state or content) alone, so streams under two
    anchors begin with the same content noise.

    Args:
        weights: What streams.
        anchor: Policy of slot 0.
        prompts: N prompts.
        seeds: N seeds.
        chunks: Chunks of three latent frames.
        steps: Euler steps of a chunk.
        cfg: Guidance; 1 takes half the time. The stream without a prompt has a past of its own.
        grid: Height and width of the latents.

    Returns:
        Content ``(N, 16, 3 * chunks, h, w)`` and states ``(N, 16, chunks, h, w)``, None if there
        are none; normalised, in fp32, on the CPU.
    """
    config = anchor_config(anchor, weights.ema_rate)
    with torch.autocast(weights.device.type, torch.bfloat16, enabled=weights.device.type == "cuda"):
        streams = Streams(weights, config, [prompt.text for prompt in prompts], cfg)
        states = streams.memory.state_frames
        content, state = [], []
        for chunk in range(chunks):
            x = draw_noise(list(seeds), CONTENT, chunk, 3, grid)
            if states:
                x = torch.cat([draw_noise(list(seeds), STATE, chunk, states, grid), x], 2)
            x = streams.next_chunk(x.to(weights.device), shifted_sigmas(steps, SHIFT))
            state.append(x[:, :, :states].cpu())
            content.append(x[:, :, states:].cpu())
    return torch.cat(content, 2), torch.cat(state, 2) if states else None


class Streams:
    """A batch of streams between two chunks."""

    def __init__(
        self, weights: Weights, config: StreamConfig, texts: Sequence[str], cfg: float
    ) -> None:
        self.network, self.cfg = Network(weights.config), cfg
        self.params = part(weights.params, "dit.", torch.float32)
        silent = [""] * len(texts) if cfg != 1.0 else []
        self.words, self.memory = embedded(weights, [*texts, *silent]), Memory(config)

    def next_chunk(self, noise: Tensor, sigmas: Sequence[float]) -> Tensor:
        """Denoise blocks ``(N, 16, [1 +] 3, h, w)`` down the noise levels, and commit them."""
        x, past, at = noise, self.memory.read(), self.memory.layout()
        for here, there in pairwise(sigmas):
            both = self._both(x)
            t = torch.full((len(both),), 1000.0 * here, device=x.device)
            velocity = self.network.velocity(self.params, both, t, self.words, past, at)
            if self.cfg != 1.0:
                told, silent = velocity.chunk(2)
                velocity = silent + self.cfg * (told - silent)
            x = x + (there - here) * velocity
        self.memory.commit(self.network.write(self.params, self._both(x), self.words, past, at))
        return x

    def _both(self, x: Tensor) -> Tensor:
        """Give the streams with and without a prompt the same latents."""
        return x if self.cfg == 1.0 else x.repeat(2, 1, 1, 1, 1)
