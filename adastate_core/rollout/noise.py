"""Randomness with one generator per purpose and chunk.

Every draw depends on (seed, purpose, chunk index) alone. Turning the state off, or running one
chunk again, therefore leaves every other draw as it was. Generators live on the CPU, so that a
seed means the same on every device.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import torch
from torch import Tensor

from ..transfer import sent

Purpose = Literal["content", "state", "renoise-content", "renoise-state", "sampler", "late-sampler"]


def derive_seed(seed: int, purpose: Purpose, chunk: int) -> int:
    """Derive the 63-bit seed of one purpose of one chunk."""
    text = f"adastate:{seed}:{purpose}:{chunk}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def generator(seed: int, purpose: Purpose, chunk: int) -> torch.Generator:
    """Make the CPU generator of one purpose of one chunk."""
    return torch.Generator("cpu").manual_seed(derive_seed(seed, purpose, chunk))


class BlockNoise:
    """The noise of one chunk, state and content from separate generators.

    >>> with_state = BlockNoise(seed=7, chunk=0, shape=(1, 4, 4, 2, 2), state_frames=1)
    >>> without = BlockNoise(seed=7, chunk=0, shape=(1, 4, 3, 2, 2), state_frames=0)
    >>> torch.equal(with_state.initial()[:, :, 1:], without.initial())
    True

    Args:
        seed: Seed of the step.
        chunk: Absolute chunk index.
        shape: Shape of the block, (B, C, F_s + F, H, W).
        state_frames: State frames at the front of the block (F_s).
    """

    def __init__(
        self, seed: int, chunk: int, shape: tuple[int, int, int, int, int], state_frames: int
    ) -> None:
        self._seed, self._chunk = seed, chunk
        self._shape, self._state_frames = shape, state_frames
        self._renoise = (
            generator(seed, "renoise-state", chunk),
            generator(seed, "renoise-content", chunk),
        )
        self._ahead: Tensor | None = None
        self.renoised = 0
        """How often a step has asked for fresh noise."""

    def sampler_seed(self, first_step: int = 0) -> int:
        """Return a seed for samplers that draw on their own, another where one takes over."""
        return derive_seed(self._seed, "late-sampler" if first_step else "sampler", self._chunk)

    def initial(self) -> Tensor:
        """Draw the noise a chunk starts from, float32 on the CPU; the same at every call."""
        return self._draw(
            generator(self._seed, "state", self._chunk),
            generator(self._seed, "content", self._chunk),
        )

    def renoise(self, like: Tensor) -> Tensor:
        """Draw fresh noise for the next step, on the device and in the dtype of `like`."""
        ahead, self._ahead = self._ahead, None
        self.renoised += 1
        return self._fresh(like) if ahead is None else ahead.to(like)

    def draw_ahead(self, like: Tensor) -> None:
        """Draw what `renoise` gives next, while the device of `like` is still computing."""
        if self._ahead is None:
            self._ahead = self._fresh(like)

    def _fresh(self, like: Tensor) -> Tensor:
        return sent(self._draw(*self._renoise), like.device).to(like.dtype)

    def _draw(self, state: torch.Generator, content: torch.Generator) -> Tensor:
        batch, channels, frames, height, width = self._shape
        parts = [
            torch.randn((batch, channels, count, height, width), generator=source)
            for count, source in (
                (self._state_frames, state),
                (frames - self._state_frames, content),
            )
            if count
        ]
        return torch.cat(parts, dim=2)
