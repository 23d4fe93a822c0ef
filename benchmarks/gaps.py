"""What a stream does between a chunk's last step and its commit, when a card would wait for it.

Latents have the size of 480 x 832 and the model as many layers as Wan 2.1 1.3B, but there is no
model: a session gives noise back, and its commit stores keys of a few tokens. So what is timed is
bookkeeping alone: whether the chunk is finite, its digest, its event, the plan of what to commit.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.harness import Measured, Row, pack
from benchmarks.streams import SIZES

LAYERS, TOKENS, HEADS, CHANNELS = 30, 4, 2, 8


@dataclass(frozen=True)
class Gaps:
    """Size of the latents, chunks that the stream has had, and chunks that are timed."""

    size: tuple[int, int] = (60, 104)
    warm_up: int = 20
    chunks: int = 40

    def measure(self) -> Measured:
        """Return the median milliseconds from a chunk to its commit and from there to the next."""
        host = _Host()
        self._run(host)
        to_commit, to_chunk = host.session.to_commit, host.session.to_chunk
        found = {
            "to_commit_ms": statistics.median(to_commit[self.warm_up :]),
            "to_next_chunk_ms": statistics.median(to_chunk[self.warm_up :]),
        }
        rows = [
            Row("from a chunk to its commit", found["to_commit_ms"], 2, "ms"),
            Row("from a commit to the next chunk", found["to_next_chunk_ms"], 2, "ms"),
        ]
        return Measured(rows, {**found, "setting": {**vars(self), **SIZES, "layers": LAYERS}})

    def _run(self, host: _Host) -> None:
        core = pack().part
        attention, stream = "adastate_core.attention", "adastate_core.stream"
        rope = core(f"{attention}.rope").TemporalRope(((0.9, 0.13),))
        geometry = core(f"{attention}.geometry").AttentionGeometry(LAYERS, TOKENS, 2, rope)
        kind = core("adastate_core.fingerprint").ModelFingerprint
        text = core(f"{stream}.conditioning").Conditioning.pack([torch.zeros(1, 8, 16), {}])
        chunks = core("adastate_core.rollout.stream_chunks")
        request = chunks.StreamRequest(
            chunks=self.warm_up + self.chunks,
            seed=0,
            conditions=core(f"{stream}.events").Conditions(text, None, guided=False),
            config=core("adastate_core.config").StreamConfig(),
            fingerprint=kind("bench", 16, "0"),
            geometry=geometry,
        )
        state = core(f"{stream}.state").StreamState((1, 16, *self.size))
        pool = core(f"{attention}.kv_cache").KVCachePool()
        chunks.stream_chunks(state, request, host, pool)


class _Session:
    """A session without a model."""

    def __init__(self) -> None:
        self.to_commit: list[float] = []
        self.to_chunk: list[float] = []
        self._call = pack().part("adastate_core.attention.block_attention").SelfAttention
        self._made = self._committed = 0.0

    def denoise(self, noise: Any, view: Any) -> Any:
        """Give the noise back."""
        if self._committed:
            self.to_chunk.append(1000 * (time.perf_counter() - self._committed))
        block = noise.initial()
        self._made = time.perf_counter()
        return block

    def commit(self, block: Any, view: Any) -> None:
        """Store keys and values of every layer."""
        self.to_commit.append(1000 * (time.perf_counter() - self._made))
        x = torch.zeros(1, view.frames * TOKENS, HEADS, CHANNELS)
        for layer in range(LAYERS):
            view.attend(self._call(layer, (0,), x, x, x))
        self._committed = time.perf_counter()


class _Host:
    """Whoever opens that session."""

    def __init__(self) -> None:
        self.session = _Session()

    def run(self, conditions: Any, body: Callable[[Any], object]) -> None:
        """Open it."""
        body(self.session)
