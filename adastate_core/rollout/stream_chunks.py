"""The recurrence: commit what the cache lacks, denoise a chunk, append it, and again.

Follow a chunk from top to bottom: `stream_chunks` brings the cache up to date (`replay`),
denoises the block [state; content] with the cache in view (`attention`), and appends the clean
latents to the state. Nothing here knows a host or a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..anchors import policy_for
from ..attention.block_attention import BlockAttention
from ..attention.chunk_attention import ChunkAttention
from ..attention.geometry import AttentionGeometry
from ..attention.kv_cache import KVCache, KVCachePool
from ..attention.text_tokens import Prefilled
from ..config import StreamConfig
from ..digest import tensor_digest, text_digest
from ..errors import NonFiniteError
from ..fingerprint import ModelFingerprint
from ..stream.events import PROMPT_LENGTH, ChunkEvent, Conditions
from ..stream.state import StreamState
from ..stream.timing import with_clock
from .latent_block import LatentBlock
from .noise import BlockNoise
from .replay import CommitSession, Replay
from .replay_plan import NEGATIVE, POSITIVE, ReplayPlan
from .text_prefill import prefilled_text


class Session(CommitSession, Protocol):
    """An open sampling session of the host, under fixed conditionings."""

    def denoise(self, noise: BlockNoise, view: BlockAttention) -> LatentBlock:
        """Sample one block from noise with the cache in view; return it clean."""
        ...


class Host(Protocol):
    """What the core needs from whoever owns the model."""

    def run(self, conditions: Conditions, body: Callable[[Session], object]) -> None:
        """Open a session under these conditionings and call `body` with it."""
        ...


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a run should make.

    Args:
        chunks: Chunks to generate.
        seed: Seed; every draw depends on it and the absolute chunk index.
        conditions: Conditionings.
        config: Options.
        fingerprint: The model.
        geometry: How the model orders, numbers and rotates tokens.
        weights: Digest of the weight patches in effect, empty if there are none.
        setup: Digest of whatever else the keys and values depend on, such as options and patches
            of the host. It need not outlive the process.
        prompt: The text behind the positive conditioning, which the chunks keep as a caption.
        keep_start: Whether the cache that the run began from survives a failure of a later chunk.
            Who keeps every chunk as it comes needs it no longer.
    """

    chunks: int
    seed: int
    conditions: Conditions
    config: StreamConfig
    fingerprint: ModelFingerprint
    geometry: AttentionGeometry
    weights: str = ""
    setup: str = ""
    prompt: str = ""
    keep_start: bool = True

    @property
    def conditionings(self) -> tuple[int, ...]:
        """Return the indices of the conditionings that take part."""
        return (POSITIVE, NEGATIVE) if self.conditions.guided else (POSITIVE,)

    @property
    def model(self) -> str:
        """Return what identifies the model with all that is on it, for the keys of the cache."""
        return "\n".join((self.fingerprint.digest, self.weights, self.setup))


def stream_chunks(
    state: StreamState,
    request: StreamRequest,
    host: Host,
    pool: KVCachePool,
    on_chunk: Callable[[StreamState], object] = lambda state: None,
    on_replay: Callable[[int], None] = lambda commits: None,
) -> StreamState:
    """Generate chunks and return the stream after them.

    The state that came in is not changed, and the cache it continues from survives a failure
    unless the request says otherwise.

    Args:
        state: The stream so far.
        request: What to make.
        host: Owner of the model.
        pool: KV caches of this model with these base weights.
        on_chunk: Called with the new state after every chunk; False makes it the last one.
        on_replay: Called before work starts with the number of blocks to commit first; 1 where a
            stream continues.

    Raises:
        StateMismatchError: If the stream belongs to another model.
        NonFiniteError: If a chunk comes out with NaN or infinite values.
    """
    state.check_model(request.fingerprint)
    state = _switch_prompt(state, request)
    state = with_clock(replace(state, fingerprint=request.fingerprint), request.geometry.clock)
    replay = _replay(state, request, pool)
    on_replay(replay.commits)
    *others, last = replay.sessions(request.conditions)
    for earlier in others:
        host.run(earlier.conditions, partial(replay.run, earlier.steps))

    def body(session: Session) -> None:
        nonlocal state, replay
        replay.run(last.steps, session)
        text = _prefilled(state, request, pool, session)
        for made in range(request.chunks):
            if made:
                replay = _replay(state, request, pool, replay)
                replay.run(replay.missing, session)
            state = _make_chunk(state, request, session, replay.caches, text)
            if on_chunk(state) is False:
                return

    host.run(request.conditions, body)
    return state


def _make_chunk(
    state: StreamState,
    request: StreamRequest,
    session: Session,
    past: dict[int, KVCache],
    text: Prefilled,
) -> StreamState:
    """Denoise one block with the cache in view, and append it."""
    config = request.config
    policy = policy_for(config)
    states = policy.state_frames(config)
    batch, channels, height, width = state.latent_shape
    shape = (batch, channels, states + config.chunk_frames, height, width)
    noise = BlockNoise(request.seed, state.chunk_index, shape, states, state.sound_of_next(config))
    view = ChunkAttention(
        config, policy, past, request.geometry, first_frame=state.next_frame, text=text
    )
    made = session.denoise(noise, view).map(lambda x: x.detach().cpu())
    for track in made.tracks:
        _require_finite(track, state.chunk_index)
    block, sound = made.video, made.sound
    negative = request.conditions.negative
    event = ChunkEvent(
        index=state.chunk_index,
        seed=request.seed,
        positive=request.conditions.positive.digest,
        negative=negative.digest if negative else None,
        weights=request.weights,
        config=config,
        held=state.hold != 0,
        approximate=any(kv.approximate for kv in past.values()),
        latents=_digest(made),
        frame=state.next_frame,
        # Clones: slices would keep the whole block alive for either part.
        state=block[:, :, :states].clone() if states else None,
        content=block[:, :, states:].clone(),
        sound=sound.clone() if sound is not None else None,
        prompt=request.prompt[:PROMPT_LENGTH],
    )
    return state.append_chunk(event, request.conditions)


def _prefilled(
    state: StreamState, request: StreamRequest, pool: KVCachePool, session: Session
) -> dict[int, KVCache]:
    given = {POSITIVE: request.conditions.positive, NEGATIVE: request.conditions.negative}
    digests = {i: of.digest for i, of in given.items() if of and i in request.conditionings}
    return prefilled_text(
        request.config, digests, state.latent_shape, request.geometry, pool, request.model, session
    )


def _digest(block: LatentBlock) -> str:
    """Return the digest of the latents of a block; of several tracks, that of their digests."""
    digests = [tensor_digest(track) for track in block.tracks]
    return digests[0] if len(digests) == 1 else text_digest(" ".join(digests))


def _replay(
    state: StreamState, request: StreamRequest, pool: KVCachePool, before: Replay | None = None
) -> Replay:
    plan = ReplayPlan(state, request.conditions, request.config, request.model)
    return Replay(
        plan,
        pool,
        request.geometry,
        request.weights,
        request.conditionings,
        before,
        keep_start=request.keep_start,
    )


def _switch_prompt(state: StreamState, request: StreamRequest) -> StreamState:
    """Do to the cache what the config asks for when the prompt has changed."""
    last = state.last_chunk
    if last is None or last.positive == request.conditions.positive.digest:
        return state
    if request.config.prompt_switch == "recache":
        return state.recache()
    if request.config.prompt_switch == "flush":
        return state.flush(request.config.flush_frames)
    return state


def _require_finite(block: Tensor, chunk: int) -> None:
    # One number that is none makes the sum none; a card waits here, so count only then.
    if torch.isfinite(block.sum()):
        return
    bad = int((~torch.isfinite(block)).sum())
    if bad:
        raise NonFiniteError(
            f"chunk {chunk}",
            problem=f"chunk {chunk} came out broken ({bad} values are not numbers)",
            seen=f"{bad} NaN or infinite values",
            expected="finite latents",
            remedy="try another weight_dtype, a lower cfg, or other sigmas",
        )
