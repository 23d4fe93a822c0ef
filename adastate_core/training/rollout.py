"""One step of training: chunk after chunk of a clip, each learned in view of the past.

The past is committed and read as it is when the model streams, by the same two views of a block.
It is a constant: no gradient flows from a chunk into those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..anchors import policy_for
from ..attention.block_attention import BlockAttention
from ..attention.chunk_attention import ChunkAttention
from ..attention.commit_attention import CommitAttention
from ..attention.geometry import AttentionGeometry
from ..attention.kv_cache import KVCache
from ..attention.kv_format import KVFormat
from ..config import StreamConfig
from ..rollout.latent_block import LatentBlock
from ..rollout.noise import BlockNoise, CommitNoise
from ..rollout.replay import CommitSession, with_noise
from .plan import StepPlan


@dataclass(frozen=True, slots=True, repr=False)
class TrainingClip:
    """A clip in the latents that a stream would have of it.

    Args:
        content: (1, C, chunks x F, H, W), in model space.
        state: (1, C, chunks x F_s, H, W): what the state of each chunk is to be; None without one.
        conditioning: Index of its prompt.
    """

    content: Tensor
    state: Tensor | None
    conditioning: int

    def chunks(self, config: StreamConfig) -> int:
        """Count the chunks."""
        return int(self.content.shape[2]) // config.chunk_frames

    def block(self, chunk: int, config: StreamConfig) -> LatentBlock:
        """Return the state and the content of a chunk."""
        size = config.chunk_frames
        content = self.content[:, :, chunk * size : (chunk + 1) * size]
        if self.state is None:
            return LatentBlock.joined(None, content)
        states = policy_for(config).state_frames(config)
        return LatentBlock.joined(self.state[:, :, chunk * states : (chunk + 1) * states], content)


class TrainingSession(CommitSession, Protocol):
    """An open session of the host in which an adapter learns."""

    def learn(
        self,
        block: LatentBlock,
        noise: LatentBlock,
        level: float,
        view: BlockAttention,
        weight: float,
    ) -> float:
        """Forward a noised block, and add to the gradients of the adapter.

        Args:
            block: The block, clean.
            noise: Its noise.
            level: How far down the schedule it is, from 0 to 1.
            view: The block with the past in view.
            weight: Factor on the gradients.

        Returns:
            The loss, before the weight.
        """
        ...

    def remake(
        self, block: LatentBlock, noise: BlockNoise, start: float, view: BlockAttention
    ) -> LatentBlock:
        """Put noise on a clean block and let the model take it off again.

        Args:
            block: The block, clean.
            noise: Where its noise comes from.
            start: How far down the schedule it begins, from 0 to 1.
            view: The block with the past in view.
        """
        ...


@dataclass(frozen=True, slots=True)
class Rollout:
    """The recurrence of one stream, as a step of training goes through it.

    Args:
        config: Options of the stream.
        geometry: How the model orders, numbers and rotates tokens.
        kv_format: How its caches keep keys and values.
    """

    config: StreamConfig
    geometry: AttentionGeometry
    kv_format: KVFormat

    def step(self, clip: TrainingClip, plan: StepPlan, session: TrainingSession) -> float:
        """Learn the chunks of a step; the gradients are left in the adapter.

        Returns:
            The loss, weighted as the chunks are.
        """
        past = {clip.conditioning: KVCache.empty(self.kv_format)}
        if plan.first:
            before = plan.first - 1
            past = self._committed(clip.block(before, self.config), before, plan, past, session)
        count, total = len(plan.weights), 0.0
        for index, (weight, level) in enumerate(zip(plan.weights, plan.levels, strict=True)):
            chunk = plan.first + index
            block = clip.block(chunk, self.config)
            view = self._view(past, chunk)
            noise = self._noise(plan.seed, chunk, block).initial()
            total += weight / count * session.learn(block, noise, level, view, weight / count)
            if index + 1 == count:
                break
            if plan.own_past:
                own = self._noise(plan.past_seed, chunk, block)
                block = session.remake(block, own, plan.starts[index], view)
            past = self._committed(block, chunk, plan, past, session)
        return total

    def _view(self, past: dict[int, KVCache], chunk: int) -> ChunkAttention:
        policy, first = policy_for(self.config), chunk * self.config.chunk_frames
        return ChunkAttention(self.config, policy, past, self.geometry, first_frame=first)

    def _committed(
        self,
        block: LatentBlock,
        chunk: int,
        plan: StepPlan,
        past: dict[int, KVCache],
        session: TrainingSession,
    ) -> dict[int, KVCache]:
        policy, first = policy_for(self.config), chunk * self.config.chunk_frames
        view = CommitAttention(self.config, policy, past, self.geometry, first_frame=first)
        sigma = self.config.commit_sigma
        if sigma:
            noise = CommitNoise.drawn(sigma, plan.seed, chunk, block, view.state_frames)
            with_noise(session).commit_noised(block, view, noise)
        else:
            session.commit(block, view)
        return view.committed()

    def _noise(self, seed: int, chunk: int, block: LatentBlock) -> BlockNoise:
        batch, channels, frames, height, width = block.video.shape
        states = policy_for(self.config).state_frames(self.config)
        return BlockNoise(seed, chunk, (batch, channels, frames, height, width), states)


def velocity_loss(denoised: Tensor, clean: Tensor, time: float) -> Tensor:
    """Return the mean squared error of a velocity.

    Args:
        denoised: What the model makes of the noised latents.
        clean: What they are without noise.
        time: Share of the noise in them, more than 0.
    """
    return ((denoised.float() - clean.float()) / time).square().mean()
