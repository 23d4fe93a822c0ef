"""The context of the next chunk as latents: the frames behind slot 0 and the window.

The KV cache holds keys and values of exactly these frames (of an averaged anchor it has the average
of keys and values, and this the average of latents). The same commit plans that make the cache run
here over the latents, so the two cannot disagree. It also says how latents that were given, not
made, are committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..anchors import policy_for, policy_for_block
from ..clock import StreamClock
from ..config import StreamConfig
from ..layout import CachedFrames, CommitPlan, FrameMix, FrameRef, refs
from .events import ChunkEvent, Event, FlushEvent, GivenLatentsEvent, ResetEvent, newest_beginning


@dataclass(frozen=True, slots=True, repr=False)
class ContextLatents:
    """The latents behind slot 0 and the window.

    Args:
        anchor: Latents of slot 0, (B, C, T, H, W), or None.
        window: Latents of the window, (B, C, T, H, W), or None.
        averages: How many of the last anchor frames are averages over the image. They show nothing
            and cannot be committed.
        heard: The sound of every frame of the window, (B, C, T, R); empty where there is none.
    """

    anchor: Tensor | None = None
    window: Tensor | None = None
    averages: int = 0
    heard: tuple[Tensor, ...] = ()

    @property
    def committable(self) -> Tensor | None:
        """Return the anchor frames that can be committed."""
        if self.anchor is None or not self.averages:
            return self.anchor
        return self.anchor[:, :, : -self.averages]

    @property
    def sound(self) -> Tensor | None:
        """Return the sound of the window, (B, C, T, R), or None."""
        return torch.cat(self.heard, dim=2) if self.heard else None


@dataclass(frozen=True, slots=True, repr=False)
class SeedBlock:
    """One commit of given latents.

    Args:
        state: Latents for slot 0, (B, C, F_s, H, W), or None.
        content: Latents committed as content, (B, C, T, H, W).
        frame: Content frame of the stream at which it begins.
        hold: Whether slot 0 stays as an earlier block left it.
        lone: Whether the content is there only because a state needs some, and leaves the window
            again.
        sound: Sound of the content, (B, C, T, R), or None.
    """

    state: Tensor | None
    content: Tensor
    frame: int = 0
    hold: bool = False
    lone: bool = False
    sound: Tensor | None = None


def context_latents(events: Sequence[Event], clock: StreamClock | None = None) -> ContextLatents:
    """Return what the events of a stream leave in slot 0 and the window.

    Latents given after the last chunk are not cut to the sizes of a policy yet: that depends on
    the options of the next chunk.

    Args:
        events: The events, oldest first.
        clock: Which sound belongs to a frame, if that is known.
    """
    context = ContextLatents()
    for position in range(newest_beginning(events), len(events)):
        event = events[position]
        if isinstance(event, ChunkEvent):
            context = _after_chunk(context, event, clock)
        elif isinstance(event, GivenLatentsEvent):
            following = (events[i] for i in range(position, len(events)))
            later = (e for e in following if isinstance(e, ChunkEvent))
            context = _after_given(event, next(later, None), clock)
        elif isinstance(event, ResetEvent):
            if event.scope != "window":
                context = replace(context, anchor=None, averages=0)
            if event.scope != "anchor":
                context = replace(context, window=None, heard=())
        elif isinstance(event, FlushEvent):
            window = _last(context.window, event.frames)
            heard = context.heard[len(context.heard) - min(event.frames, len(context.heard)) :]
            context = replace(context, window=window, heard=heard)
    return context


def seed_blocks(
    event: GivenLatentsEvent, config: StreamConfig, clock: StreamClock | None = None
) -> list[SeedBlock]:
    """Cut given latents into the blocks that fill slot 0 and the window, oldest first.

    A clip's newest frames are committed in blocks counted from their end. A hidden state comes
    with the last block. First frames that an anchor keeps are a block of their own in front.

    Args:
        event: The given latents.
        config: Options of the chunk that follows them.
        clock: Which sound belongs to a frame, if that is known.
    """
    policy = policy_for(config)
    states, sink = policy.state_frames(config), policy.sink_frames(config)
    anchor, content = event.state, event.content
    if event.reason == "restart" and content is not None and states:
        anchor = content[:, :, -1:]
    wanted = policy.kept_frames(config) - states
    if content is not None and _outlasts(event, config, wanted, sink):
        anchor = content[:, :, :sink]
    if sink and anchor is not None:
        first = SeedBlock(None, anchor[:, :, -sink:], sound=_sound_of_anchor(event, config, clock))
        return [first, *(replace(b, hold=True) for b in _tail(event, config, wanted - sink, clock))]
    blocks = _tail(event, config, wanted, clock)
    if anchor is None or not states:
        return blocks
    seed = anchor[:, :, -states:]
    missing = states - seed.shape[2]
    seed = torch.cat([seed[:, :, :1]] * missing + [seed], dim=2)
    if not blocks:
        return [SeedBlock(seed, anchor[:, :, -1:], event.frame, lone=True)]
    return [*blocks[:-1], replace(blocks[-1], state=seed)]


def _after_chunk(
    context: ContextLatents, event: ChunkEvent, clock: StreamClock | None
) -> ContextLatents:
    if event.content is None:
        return ContextLatents()  # beyond the bounded history
    block = SeedBlock(event.state, event.content, event.frame, event.held, sound=event.sound)
    return _committed(context, event.config, block, clock)


def _after_given(
    event: GivenLatentsEvent, later: ChunkEvent | None, clock: StreamClock | None
) -> ContextLatents:
    if later is None:
        anchor = event.state
        if event.reason == "restart" and event.content is not None:
            anchor = event.content[:, :, -1:]
        heard: tuple[Tensor, ...] = ()
        if event.content is not None:
            heard = _by_frame(event.sound, event.frame, event.content.shape[2], clock)
        return ContextLatents(anchor, event.content, heard=heard)
    context = ContextLatents()
    for block in seed_blocks(event, later.config, clock):
        context = _committed(context, later.config, block, clock)
        if block.lone:
            context = replace(context, window=None, heard=())
    return context


def _committed(
    context: ContextLatents, config: StreamConfig, block: SeedBlock, clock: StreamClock | None
) -> ContextLatents:
    """Apply the commit plan of one block to latents."""
    state, content, hold = block.state, block.content, block.hold
    anchor, window = (tuple(range(_frames(x))) for x in (context.anchor, context.window))
    cached = CachedFrames(anchor, window)
    config = replace(config, chunk_frames=content.shape[2])
    plan: CommitPlan = policy_for_block(config, state is not None).commit(config, cached, hold=hold)
    sources = {
        "anchor": context.anchor,
        "window": context.window,
        "state": state,
        "content": content,
    }

    def frame(kept: FrameRef | FrameMix) -> Tensor:
        if isinstance(kept, FrameMix):
            parts = [weight * frame(ref).float() for ref, weight in kept.terms]
            mixed = torch.stack(parts).sum(dim=0).to(content.dtype)
            return mixed.mean((3, 4), keepdim=True).expand_as(mixed) if kept.pooled else mixed
        source = sources[kept.source]
        assert source is not None  # a plan names frames that are there
        return source[:, :, kept.position : kept.position + 1]

    def gather(kept: tuple[FrameRef | FrameMix, ...]) -> Tensor | None:
        return torch.cat([frame(k) for k in kept], dim=2) if kept else None

    # An average that stays as it is under a hold is a plain frame of the plan.
    kept_averages = context.averages if plan.anchor == refs("anchor", len(cached.anchor)) else 0
    averages = sum(isinstance(k, FrameMix) and k.pooled for k in plan.anchor) or kept_averages
    made = _by_frame(block.sound, block.frame, content.shape[2], clock)
    heard: tuple[Tensor, ...] = ()
    if made or context.heard:
        none = (context.heard or made)[0][:, :, :0]
        before = context.heard or (none,) * len(window)
        of = {"window": before, "content": made or (none,) * content.shape[2]}
        heard = tuple(of[ref.source][ref.position] for ref in plan.window)
    return ContextLatents(gather(plan.anchor), gather(plan.window), averages, heard)


def _by_frame(
    sound: Tensor | None, first: int, frames: int, clock: StreamClock | None
) -> tuple[Tensor, ...]:
    """Cut the sound of some frames into that of each; nothing where it is not known."""
    if sound is None or clock is None:
        return ()
    counts = [clock.ticks(frame) for frame in range(first, first + frames)]
    return tuple(torch.split(sound, counts, dim=2))


def _outlasts(event: GivenLatentsEvent, config: StreamConfig, wanted: int, sink: int) -> bool:
    """Say whether a clip is longer than the cache, so that its first frames are the anchor.

    Absolute positions give an anchor the indices of the stream's first frames, so it has to hold
    these, and not the first ones of the clip's end.
    """
    absolute = config.positions == "absolute" and sink > 0 and event.state is None
    size = config.chunk_frames
    return absolute and event.frame == 0 and _frames(event.content) > -(-wanted // size) * size


def _sound_of_anchor(
    event: GivenLatentsEvent, config: StreamConfig, clock: StreamClock | None
) -> Tensor | None:
    """Return the sound of the first frames of a clip, where they are the anchor and keep it."""
    if event.state is not None or event.content is None or not config.anchor_sound:
        return None
    heard = _by_frame(event.sound, event.frame, event.content.shape[2], clock)
    return torch.cat(heard[: config.anchor_frames], dim=2) if heard else None


def _tail(
    event: GivenLatentsEvent, config: StreamConfig, wanted: int, clock: StreamClock | None
) -> list[SeedBlock]:
    """Cut the newest frames that are wanted, at least one, into blocks counted from the end."""
    content, size = event.content, config.chunk_frames
    if content is None:
        return []
    heard = _by_frame(event.sound, event.frame, content.shape[2], clock)
    ends = [content.shape[2] - size * i for i in range(max(1, -(-wanted // size)))]
    return [
        SeedBlock(
            None,
            content[:, :, begin:end],
            event.frame + begin,
            sound=torch.cat(heard[begin:end], dim=2) if heard else None,
        )
        for end in reversed(ends)
        if end > (begin := max(end - size, 0))
    ]


def _last(latents: Tensor | None, frames: int) -> Tensor | None:
    kept = min(frames, _frames(latents))
    return None if latents is None or kept == 0 else latents[:, :, -kept:]


def _frames(latents: Tensor | None) -> int:
    return 0 if latents is None else latents.shape[2]
