"""Randomness with one generator per purpose and chunk.

Every draw depends on (seed, purpose, chunk index) alone. Turning the state off, or running one
chunk again, therefore leaves every other draw as it was. Generators live on the CPU, so that a
seed means the same on every device.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..transfer import sent
from .latent_block import LatentBlock

Purpose = Literal[
    "content",
    "state",
    "sound",
    "renoise-content",
    "renoise-state",
    "renoise-sound",
    "commit-content",
    "commit-state",
    "commit-sound",
    "sampler",
    "late-sampler",
]


def derive_seed(seed: int, purpose: Purpose, chunk: int) -> int:
    """Derive the 63-bit seed of one purpose of one chunk."""
    text = f"adastate:{seed}:{purpose}:{chunk}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def generator(seed: int, purpose: Purpose, chunk: int) -> torch.Generator:
    """Make the CPU generator of one purpose of one chunk."""
    return torch.Generator("cpu").manual_seed(derive_seed(seed, purpose, chunk))


@dataclass(frozen=True, slots=True, repr=False)
class CommitNoise:
    """The noise that a clean block has when it is committed.

    Args:
        sigma: Its level.
        noise: The noise, of the shapes of the block.
    """

    sigma: float
    noise: LatentBlock

    @classmethod
    def drawn(
        cls, sigma: float, seed: int, number: int, block: LatentBlock, state_frames: int
    ) -> CommitNoise:
        """Draw the noise of a commit, float32 on the CPU; the same whenever it is made again.

        Args:
            sigma: Its level.
            seed: Seed of the step that made the block.
            number: Absolute chunk index; of given latents, the frame at which they begin.
            block: The block.
            state_frames: State frames at its front.
        """
        purposes: tuple[Purpose, ...] = ("commit-state", "commit-content", "commit-sound")
        sources = [generator(seed, purpose, number) for purpose in purposes]
        heard = None if block.sound is None else tuple(block.sound.shape)
        return cls(sigma, _drawn(sources, tuple(block.video.shape), state_frames, heard))


class BlockNoise:
    """The noise of one chunk; state, content and sound from separate generators.

    >>> with_state = BlockNoise(seed=7, chunk=0, shape=(1, 4, 4, 2, 2), state_frames=1)
    >>> without = BlockNoise(seed=7, chunk=0, shape=(1, 4, 3, 2, 2), state_frames=0)
    >>> torch.equal(with_state.initial().video[:, :, 1:], without.initial().video)
    True

    Args:
        seed: Seed of the step.
        chunk: Absolute chunk index.
        shape: Shape of the block, (B, C, F_s + F, H, W).
        state_frames: State frames at the front of the block (F_s).
        sound_shape: Shape of its sound, (B, C, T, R); None if it has none.
    """

    def __init__(
        self,
        seed: int,
        chunk: int,
        shape: tuple[int, int, int, int, int],
        state_frames: int,
        sound_shape: tuple[int, int, int, int] | None = None,
    ) -> None:
        self._seed, self._chunk = seed, chunk
        self._shape, self._state_frames, self._sound_shape = shape, state_frames, sound_shape
        purposes: tuple[Purpose, ...] = ("renoise-state", "renoise-content", "renoise-sound")
        self._renoise = [generator(seed, purpose, chunk) for purpose in purposes]
        self._ahead: LatentBlock | None = None
        self.renoised = 0
        """How often a step has asked for fresh noise."""

    def sampler_seed(self, first_step: int = 0) -> int:
        """Return a seed for samplers that draw on their own, another where one takes over."""
        return derive_seed(self._seed, "late-sampler" if first_step else "sampler", self._chunk)

    def initial(self) -> LatentBlock:
        """Draw the noise a chunk starts from, float32 on the CPU; the same at every call."""
        purposes: tuple[Purpose, ...] = ("state", "content", "sound")
        return self._draw([generator(self._seed, purpose, self._chunk) for purpose in purposes])

    def renoise(self, like: Tensor) -> LatentBlock:
        """Draw fresh noise for the next step, on the device and in the dtype of `like`."""
        ahead, self._ahead = self._ahead, None
        self.renoised += 1
        return self._fresh(like) if ahead is None else ahead.map(lambda x: x.to(like))

    def draw_ahead(self, like: Tensor) -> None:
        """Draw what `renoise` gives next, while the device of `like` is still computing."""
        if self._ahead is None:
            self._ahead = self._fresh(like)

    def _fresh(self, like: Tensor) -> LatentBlock:
        return self._draw(self._renoise).map(lambda x: sent(x, like.device).to(like.dtype))

    def _draw(self, sources: list[torch.Generator]) -> LatentBlock:
        return _drawn(sources, self._shape, self._state_frames, self._sound_shape)


def _drawn(
    sources: list[torch.Generator],
    shape: tuple[int, ...],
    state_frames: int,
    heard: tuple[int, ...] | None,
) -> LatentBlock:
    """Draw state, content and sound, each from its own generator."""
    state, content, sound = sources
    batch, channels, frames, height, width = shape
    parts = [
        torch.randn((batch, channels, count, height, width), generator=source)
        for count, source in ((state_frames, state), (frames - state_frames, content))
        if count
    ]
    return LatentBlock(
        torch.cat(parts, dim=2),
        None if heard is None else torch.randn(heard, generator=sound),
    )
