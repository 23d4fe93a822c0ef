"""What a stream keeps of its past, as keys and values: the policies of the pack, batched.

Which frames are kept, and at which temporal index each is read, is asked of the pack's own anchor
policies. Keys are kept unrotated and rotated when they are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from adastate_core.anchors import AnchorPolicy, policy_for
from adastate_core.config import StreamConfig
from adastate_core.layout import CachedFrames, CommitPlan, FrameMix, FrameRef, SlotLayout

# Keys and values of one layer, (B, S, heads, D), and of all layers.
KeysValues = tuple[Tensor, Tensor]
Written = list[KeysValues]

ANCHORS = ("adaptive", "frozen", "none", "ema")
# The published 0.999 hardly moves in the 60 chunks that are measured here.
EMA_RATE = 0.9


def anchor_config(anchor: str, ema_rate: float = EMA_RATE) -> StreamConfig:
    """Return the options of a stream: chunk and window of 3 frames, one state if there is any."""
    if anchor not in ANCHORS:
        raise ValueError(f"anchor is {anchor!r}, expected one of {ANCHORS}")
    return StreamConfig(anchor=anchor, ema_rate=ema_rate)  # type: ignore[arg-type]


@dataclass(slots=True)
class Memory:
    """Slot 0 and window of a batch of streams.

    Args:
        config: Options of the streams.
        anchor: Keys and values of each frame of slot 0, layer by layer.
        window: The same of the window, oldest first.
        committed: Content frames so far.
    """

    config: StreamConfig
    anchor: list[Written] = field(default_factory=list)
    window: list[Written] = field(default_factory=list)
    committed: int = 0

    @property
    def policy(self) -> AnchorPolicy:
        return policy_for(self.config)

    @property
    def state_frames(self) -> int:
        return self.policy.state_frames(self.config)

    def layout(self) -> SlotLayout:
        """Return the temporal indices of the next chunk and of what it sees."""
        return self.policy.layout(self.config, self._cached())

    def read(self) -> Written | None:
        """Return what the next chunk sees, anchor first; None for a first chunk."""
        layout = self.layout()
        frames = [self.anchor[place] for place in layout.picked]
        frames += self.window[len(self.window) - len(layout.window) :]
        if not frames:
            return None
        return [
            (torch.cat([k for k, _ in of_layer], 1), torch.cat([v for _, v in of_layer], 1))
            for of_layer in zip(*frames, strict=True)
        ]

    def commit(self, written: Written) -> None:
        """Keep what the policy keeps of a clean block [state;] content."""
        size = self.state_frames + self.config.chunk_frames
        block = [[] for _ in range(size)]  # type: list[Written]
        for k, v in written:
            for frame, keys, values in zip(block, k.chunk(size, 1), v.chunk(size, 1), strict=True):
                frame.append((keys, values))
        plan = self.policy.commit(self.config, self._cached(), hold=False)
        sources = {
            "anchor": self.anchor,
            "window": self.window,
            "state": block[: self.state_frames],
            "content": block[self.state_frames :],
        }
        self._take(plan, sources)
        self.committed += self.config.chunk_frames

    def detach(self) -> None:
        """Cut what is kept off from what wrote it."""
        for frames in (self.anchor, self.window):
            frames[:] = [[(k.detach(), v.detach()) for k, v in frame] for frame in frames]

    def blend_anchor(self, share: Tensor) -> None:
        """Let the window take part in slot 0, as if it had been leaving for a while.

        Args:
            share: How much of slot 0 stays, for each stream ``(B,)``.
        """
        stays = share.view(-1, 1, 1, 1)
        for place, (old, new) in enumerate(zip(self.anchor, self.window, strict=True)):
            self.anchor[place] = [
                (k.lerp(other_k, 1.0 - stays), v.lerp(other_v, 1.0 - stays))
                for (k, v), (other_k, other_v) in zip(old, new, strict=True)
            ]

    def _cached(self) -> CachedFrames:
        zeros = (0.0,) * len(self.anchor), (0.0,) * len(self.window)
        return CachedFrames(*zeros, committed=self.committed)

    def _take(self, plan: CommitPlan, sources: dict[str, list[Written]]) -> None:
        def frame(wanted: FrameRef | FrameMix) -> Written:
            if isinstance(wanted, FrameRef):
                return sources[wanted.source][wanted.position]
            terms = [(sources[ref.source][ref.position], weight) for ref, weight in wanted.terms]
            layers = range(len(terms[0][0]))
            return [
                (
                    torch.stack([each[i][0] * weight for each, weight in terms]).sum(0),
                    torch.stack([each[i][1] * weight for each, weight in terms]).sum(0),
                )
                for i in layers
            ]

        self.anchor, self.window = (
            [frame(wanted) for wanted in plan.anchor],
            [frame(wanted) for wanted in plan.window],
        )


def repeated(written: Written | None, copies: int) -> Written | None:
    """Give every copy of a batch the same past."""
    if written is None or copies == 1:
        return written
    return [(k.repeat(copies, 1, 1, 1), v.repeat(copies, 1, 1, 1)) for k, v in written]


def unlinked(written: Written | None) -> Written | None:
    return None if written is None else [(k.detach(), v.detach()) for k, v in written]
