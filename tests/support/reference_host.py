"""A host for the reference DiT: what nodes/ is for ComfyUI, in a few straight lines."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from adastate_core.attention.block_attention import BlockAttention, SelfAttention
from adastate_core.attention.geometry import AttentionGeometry
from adastate_core.attention.kv_cache import KVCachePool
from adastate_core.attention.kv_format import PLAIN, KVFormat
from adastate_core.attention.layers import AttentionCalls
from adastate_core.attention.rope import SpatialRope, TemporalRope, spatial_frequencies
from adastate_core.config import StreamConfig
from adastate_core.fingerprint import ModelFingerprint
from adastate_core.rollout.latent_block import LatentBlock
from adastate_core.rollout.noise import BlockNoise, CommitNoise
from adastate_core.rollout.stream_chunks import Session, StreamRequest, stream_chunks
from adastate_core.stream.conditioning import Conditioning
from adastate_core.stream.events import Conditions
from adastate_core.stream.state import StreamState
from tests.support.reference_dit import ReferenceDiT, plain_attention

SIGMAS = (1.0, 0.6, 0.3, 0.0)
CFG = 2.5


class ReferenceHost:
    """Sample with consistency steps: predict clean, re-noise to the next level."""

    def __init__(self, model: ReferenceDiT, sigmas: tuple[float, ...] = SIGMAS) -> None:
        self.model, self.sigmas = model, sigmas
        self.text: list[Tensor] = []
        self.commits = 0
        self.committed: list[tuple[int, ...]] = []
        self.denoised = 0
        self.key_tokens: list[int] = []
        self.times: list[tuple[int, ...]] = []
        self.fail_at: int | None = None
        self.on_commit: Callable[[], None] = lambda: None

    def run(self, conditions: Conditions, body: Callable[[Session], object]) -> None:
        given = (
            [conditions.positive, conditions.negative]
            if conditions.guided
            else [conditions.positive]
        )
        self.text = [each.unpack() for each in given if each is not None]  # type: ignore[misc]
        body(self)

    def forward(
        self, x: Tensor, sigma: float, view: BlockAttention, conditioning: int = 0
    ) -> Tensor:
        def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
            self.key_tokens.append(k.shape[1])
            return plain_attention(q, k, v, bias)

        return self.model(
            x,
            sigma,
            self.text[conditioning],
            view.origin,
            lambda layer, q, k, v: view.attend(
                SelfAttention(layer, (conditioning,), q, k, v, attention)
            ),
        )

    def denoise(self, noise: BlockNoise, view: BlockAttention) -> LatentBlock:
        if self.fail_at is not None and self.denoised == self.fail_at:
            raise RuntimeError("stopped on purpose")
        self.denoised += 1
        self.times.append((*view.layout.context, *view.layout.block))
        x = noise.initial().video
        for sigma, following in pairwise(self.sigmas):
            x = x - sigma * self.guided(x, sigma, view)
            if following:
                x = (1 - following) * x + following * noise.renoise(x).video
        return LatentBlock(x)

    def guided(self, x: Tensor, sigma: float, view: BlockAttention) -> Tensor:
        positive, *negative = (self.forward(x, sigma, view, i) for i in range(len(self.text)))
        return negative[0] + CFG * (positive - negative[0]) if negative else positive

    def commit(self, block: LatentBlock, view: BlockAttention, sigma: float = 0.0) -> None:
        self.commits += 1
        self.committed.append(view.conditionings)
        self.on_commit()
        for conditioning in view.conditionings:
            self.forward(block.video, sigma, view, conditioning)

    def commit_noised(self, block: LatentBlock, view: BlockAttention, noise: CommitNoise) -> None:
        x = (1 - noise.sigma) * block.video + noise.sigma * noise.noise.video
        self.commit(LatentBlock(x), view, noise.sigma)

    def prefill(self, block: LatentBlock, view: BlockAttention, noise: CommitNoise) -> None:
        raise AssertionError("this model has no text in one sequence with its video")


def text(seed: int, dim: int = 48) -> Conditioning:
    return Conditioning.pack(
        torch.randn((1, 5, dim), generator=torch.Generator().manual_seed(seed))
    )


class Harness:
    """A model with its pool: what an artist has after Apply AdaState."""

    def __init__(
        self,
        config: StreamConfig | None = None,
        *,
        size: tuple[int, int] = (2, 3),
        can_shift: bool = True,
        max_bytes: int | None = None,
        batch: int = 1,
        kv_format: KVFormat = PLAIN,
    ) -> None:
        self.config = config or StreamConfig()
        self.model = ReferenceDiT()
        self.host = ReferenceHost(self.model)
        self.pool = KVCachePool(max_bytes, kv_format=kv_format)
        time = self.model.temporal_frequencies
        across = self.model.spatial_frequencies
        self.geometry = AttentionGeometry(
            layers=len(self.model.blocks),
            tokens_per_frame=size[0] * size[1],
            columns=size[1],
            rope=TemporalRope((time,)),
            calls=AttentionCalls(),
            can_shift=can_shift,
            spatial_rope=SpatialRope(*spatial_frequencies(len(time), across, across)),
        )
        self.replays: list[int] = []
        self.fresh = StreamState((batch, self.model.channels, *size))

    def request(
        self,
        chunks: int = 1,
        *,
        seed: int = 0,
        prompt: int = 0,
        negative: int | None = None,
        config: StreamConfig | None = None,
        weights: str = "",
        setup: str = "",
        keep_start: bool = True,
    ) -> StreamRequest:
        conditions = Conditions(text(prompt))
        if negative is not None:
            conditions = Conditions(text(prompt), text(negative), guided=True)
        return StreamRequest(
            chunks=chunks,
            seed=seed,
            conditions=conditions,
            config=config or self.config,
            weights=weights,
            fingerprint=ModelFingerprint("reference", self.model.channels, "0"),
            geometry=self.geometry,
            setup=setup,
            keep_start=keep_start,
        )

    def step(
        self,
        state: StreamState,
        chunks: int = 1,
        on_chunk: Callable[[StreamState], object] = lambda state: None,
        **options: Any,
    ) -> StreamState:
        request = self.request(chunks, **options)
        return stream_chunks(state, request, self.host, self.pool, on_chunk, self.replays.append)
