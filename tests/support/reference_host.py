"""A host for the reference DiT: what nodes/ is for ComfyUI, in a few straight lines."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from adastate_core.attention import BlockPass, BlockShape
from adastate_core.cache import KVPool
from adastate_core.calls import AttentionCalls
from adastate_core.conditioning import Conditioning
from adastate_core.config import StreamConfig
from adastate_core.noise import BlockNoise
from adastate_core.packing import PLAIN, Packing
from adastate_core.record import Conditions, ModelFingerprint
from adastate_core.rollout import Session, StreamRequest, stream_chunks
from adastate_core.rope import SpatialRotation, TemporalRotation, axes
from adastate_core.state import StreamState
from tests.support.reference_dit import ReferenceDiT, plain_attention

SIGMAS = (1.0, 0.6, 0.3, 0.0)


class ReferenceHost:
    """Sample with consistency steps: predict clean, re-noise to the next level."""

    def __init__(self, model: ReferenceDiT, sigmas: tuple[float, ...] = SIGMAS) -> None:
        self.model, self.sigmas = model, sigmas
        self.text: list[Tensor] = []
        self.commits = 0
        self.denoised = 0
        self.key_tokens: list[int] = []
        self.times: list[tuple[int, ...]] = []
        self.fail_at: int | None = None
        self.on_commit: Callable[[], None] = lambda: None

    def run(self, conditions: Conditions, body: Callable[[Session], object]) -> None:
        text = conditions.positive.unpack()
        assert isinstance(text, Tensor)
        self.text = [text]
        body(self)

    def forward(self, x: Tensor, sigma: float, view: BlockPass) -> Tensor:
        def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
            self.key_tokens.append(k.shape[1])
            return plain_attention(q, k, v, bias)

        return self.model(
            x,
            sigma,
            self.text[0],
            view.origin,
            lambda layer, q, k, v: view.attend(layer, (0,), q, k, v, attention),
        )

    def denoise(self, noise: BlockNoise, view: BlockPass) -> Tensor:
        if self.fail_at is not None and self.denoised == self.fail_at:
            raise RuntimeError("stopped on purpose")
        self.denoised += 1
        self.times.append((*view.layout.context, *view.layout.block))
        x = noise.initial()
        for sigma, following in pairwise(self.sigmas):
            x = x - sigma * self.forward(x, sigma, view)
            if following:
                x = (1 - following) * x + following * noise.renoise(x)
        return x

    def commit(self, block: Tensor, view: BlockPass) -> None:
        self.commits += 1
        self.on_commit()
        self.forward(block, 0.0, view)


def text(seed: int, dim: int = 48) -> Conditioning:
    return Conditioning.pack(
        torch.randn((1, 5, dim), generator=torch.Generator().manual_seed(seed))
    )


class Studio:
    """A model with its pool: what an artist has after Apply AdaState."""

    def __init__(
        self,
        config: StreamConfig | None = None,
        *,
        size: tuple[int, int] = (2, 3),
        can_shift: bool = True,
        max_sets: int = 2,
        batch: int = 1,
        packing: Packing = PLAIN,
    ) -> None:
        self.config = config or StreamConfig()
        self.model = ReferenceDiT()
        self.host = ReferenceHost(self.model)
        self.pool = KVPool(max_sets, packing=packing)
        time = self.model.temporal_frequencies
        across = self.model.spatial_frequencies
        self.shape = BlockShape(
            layers=len(self.model.blocks),
            tokens_per_frame=size[0] * size[1],
            columns=size[1],
            rotation=TemporalRotation((time,)),
            calls=AttentionCalls(),
            can_shift=can_shift,
            space=SpatialRotation(*axes(len(time), across, across)),
        )
        self.fresh = StreamState((batch, self.model.channels, *size))

    def step(
        self,
        state: StreamState,
        chunks: int = 1,
        *,
        seed: int = 0,
        prompt: int = 0,
        config: StreamConfig | None = None,
        weights: str = "",
    ) -> StreamState:
        request = StreamRequest(
            chunks=chunks,
            seed=seed,
            conditions=Conditions(text(prompt)),
            config=config or self.config,
            weights=weights,
            fingerprint=ModelFingerprint("reference", self.model.channels, "0"),
            shape=self.shape,
        )
        return stream_chunks(state, request, self.host, self.pool)
