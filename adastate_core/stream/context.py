"""What a stream looks back to, as latents: the frames that slot 0 and the window stand for.

The attention cache holds keys and values of exactly these frames (an averaged anchor: the average
of keys and values, where this has the average of the pictures). The same commit plans that
write it run here over the latents themselves, so the two cannot disagree. It also says how
latents that were given, not made, are committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..anchors import policy_for, policy_for_block
from ..config import StreamConfig
from ..layout import CommitPlan, FrameMix, FrameRef, Occupancy, refs
from .events import ChunkEntry, Entry, FlushEntry, ResetEntry, RootEntry, newest_beginning


@dataclass(frozen=True, slots=True, repr=False)
class Memory:
    """Hold what slot 0 and the window stand for.

    Args:
        anchor: Latents of slot 0, (B, C, T, H, W), or None.
        window: Latents of the window, (B, C, T, H, W), or None.
        averages: How many of the last anchor frames are averages over the picture. They show no
            picture and cannot be committed.
    """

    anchor: Tensor | None = None
    window: Tensor | None = None
    averages: int = 0

    @property
    def pictures(self) -> Tensor | None:
        """Return the anchor frames that can be committed."""
        if self.anchor is None or not self.averages:
            return self.anchor
        return self.anchor[:, :, : -self.averages]


@dataclass(frozen=True, slots=True, repr=False)
class GivenBlock:
    """Name one commit of given latents.

    Args:
        state: Latents for slot 0, (B, C, F_s, H, W), or None.
        content: Latents committed as content, (B, C, T, H, W).
        frame: Content frame of the stream at which it begins.
        hold: Whether slot 0 stays as an earlier block left it.
        lone: Whether the content only keeps the state company and leaves the window again.
    """

    state: Tensor | None
    content: Tensor
    frame: int = 0
    hold: bool = False
    lone: bool = False


def remember(entries: Sequence[Entry]) -> Memory:
    """Return what the entries of a stream leave in slot 0 and the window.

    Latents given after the last chunk are not cut to a policy's sizes yet: the next chunk's
    options decide about them.
    """
    memory = Memory()
    for position in range(newest_beginning(entries), len(entries)):
        entry = entries[position]
        if isinstance(entry, ChunkEntry):
            memory = _after_chunk(memory, entry)
        elif isinstance(entry, RootEntry):
            following = (entries[i] for i in range(position, len(entries)))
            later = (e for e in following if isinstance(e, ChunkEntry))
            memory = _after_root(entry, next(later, None))
        elif isinstance(entry, ResetEntry):
            if entry.scope != "window":
                memory = replace(memory, anchor=None, averages=0)
            if entry.scope != "anchor":
                memory = replace(memory, window=None)
        elif isinstance(entry, FlushEntry):
            memory = replace(memory, window=_last(memory.window, entry.frames))
    return memory


def given_blocks(entry: RootEntry, config: StreamConfig) -> list[GivenBlock]:
    """Cut given latents into the blocks that fill slot 0 and the window, oldest first.

    A clip's newest frames are committed in blocks counted from their end. A hidden state comes
    with the last block. First frames that an anchor keeps are a block of their own in front.
    """
    policy = policy_for(config)
    states, sink = policy.state_frames(config), policy.sink_frames(config)
    anchor, content = entry.state, entry.content
    if entry.reason == "restart" and content is not None and states:
        anchor = content[:, :, -1:]
    wanted = policy.kept_frames(config) - states
    if content is not None and _outlasts(entry, config, wanted, sink):
        anchor = content[:, :, :sink]
    if sink and anchor is not None:
        first = GivenBlock(None, anchor[:, :, -sink:])
        return [first, *(replace(b, hold=True) for b in _tail(entry, config, wanted - sink))]
    blocks = _tail(entry, config, wanted)
    if anchor is None or not states:
        return blocks
    seed = anchor[:, :, -states:]
    missing = states - seed.shape[2]
    seed = torch.cat([seed[:, :, :1]] * missing + [seed], dim=2)
    if not blocks:
        return [GivenBlock(seed, anchor[:, :, -1:], entry.frame, lone=True)]
    return [*blocks[:-1], replace(blocks[-1], state=seed)]


def _after_chunk(memory: Memory, entry: ChunkEntry) -> Memory:
    if entry.content is None:
        return Memory()  # beyond the bounded history
    return _committed(memory, entry.config, entry.state, entry.content, entry.held)


def _after_root(entry: RootEntry, later: ChunkEntry | None) -> Memory:
    if later is None:
        anchor = entry.state
        if entry.reason == "restart" and entry.content is not None:
            anchor = entry.content[:, :, -1:]
        return Memory(anchor, entry.content)
    memory = Memory()
    for block in given_blocks(entry, later.config):
        memory = _committed(memory, later.config, block.state, block.content, block.hold)
        if block.lone:
            memory = replace(memory, window=None)
    return memory


def _committed(
    memory: Memory, config: StreamConfig, state: Tensor | None, content: Tensor, hold: bool
) -> Memory:
    """Apply the commit plan of one block to latents."""
    held = Occupancy(tuple(range(_frames(memory.anchor))), tuple(range(_frames(memory.window))))
    config = replace(config, chunk_frames=content.shape[2])
    plan: CommitPlan = policy_for_block(config, state is not None).commit(config, held, hold=hold)
    sources = {
        "anchor": memory.anchor, "window": memory.window, "state": state, "content": content,
    }  # fmt: skip

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
    kept_averages = memory.averages if plan.anchor == refs("anchor", len(held.anchor)) else 0
    averages = sum(isinstance(k, FrameMix) and k.pooled for k in plan.anchor) or kept_averages
    return Memory(gather(plan.anchor), gather(plan.window), averages)


def _outlasts(entry: RootEntry, config: StreamConfig, wanted: int, sink: int) -> bool:
    """Say whether a clip begins before the frames that stand at the front of all positions.

    Counted positions give an anchor the numbers of the stream's first frames, so it has to hold
    these, and not the first ones of the clip's end.
    """
    counted = config.positions == "absolute" and sink > 0 and entry.state is None
    size = config.chunk_frames
    return counted and entry.frame == 0 and _frames(entry.content) > -(-wanted // size) * size


def _tail(entry: RootEntry, config: StreamConfig, wanted: int) -> list[GivenBlock]:
    """Cut the newest frames that are wanted, at least one, into blocks counted from the end."""
    content, size = entry.content, config.chunk_frames
    if content is None:
        return []
    ends = [content.shape[2] - size * i for i in range(max(1, -(-wanted // size)))]
    return [
        GivenBlock(None, content[:, :, begin:end], entry.frame + begin)
        for end in reversed(ends)
        if end > (begin := max(end - size, 0))
    ]


def _last(latents: Tensor | None, frames: int) -> Tensor | None:
    kept = min(frames, _frames(latents))
    return None if latents is None or kept == 0 else latents[:, :, -kept:]


def _frames(latents: Tensor | None) -> int:
    return 0 if latents is None else latents.shape[2]
