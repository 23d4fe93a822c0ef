"""Keys and values of past frames: immutable sets, and the small pool that keeps two of them.

A `KVSet` is what every layer remembers at one point of a stream. A commit makes a new set and
leaves the old one as it was, so branches of a stream never disturb each other. Sets are
`nn.Module`s of parameters, because that is the form in which a host's memory manager counts
and moves tensors; `packing` says in which form and where. The pool is bounded; whatever it lacks is
rebuilt by `replay`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from .errors import LayoutError
from .layout import CommitPlan, FrameMix, FrameRef, Occupancy
from .packing import PLAIN, Packed, PackedFp8, Packing


class KVSet(nn.Module):
    """Hold the keys and values of every (conditioning, layer) at one point of a stream.

    Keys are stored as the model wrote them, with their native temporal index, and turned when
    they are read: storing turned keys would lose bits at every chunk.

    Args:
        occupancy: The frames held, the same in every layer.
        tokens_per_frame: Tokens of one latent frame.
        packing: In which form and where keys and values are kept.
    """

    def __init__(
        self, occupancy: Occupancy, tokens_per_frame: int, packing: Packing = PLAIN
    ) -> None:
        super().__init__()
        self.occupancy = occupancy
        self.tokens_per_frame = tokens_per_frame
        self.packing = packing
        self.approximate = False
        """Whether it was rebuilt from less than the record, or with other weights."""
        self.keys_of = nn.ModuleDict()
        self.values_of = nn.ModuleDict()

    @classmethod
    def empty(cls, tokens_per_frame: int, packing: Packing = PLAIN) -> KVSet:
        """Make the set of a stream that has committed nothing."""
        return cls(Occupancy(), tokens_per_frame, packing)

    def put(self, conditioning: int, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store the keys and values of one layer, (B, S, H, D)."""
        name = _entry(conditioning, layer)
        self.keys_of[name] = self.packing.packed(keys, self.tokens_per_frame)
        self.values_of[name] = self.packing.packed(values, self.tokens_per_frame)

    def get(self, conditioning: int, layer: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values of one layer, (B, S, H, D), where they are kept.

        Raises:
            LayoutError: If this conditioning was not part of the commit.
        """
        name = _entry(conditioning, layer)
        if name not in self.keys_of:
            raise LayoutError(
                "attention cache",
                seen=f"no keys for conditioning {conditioning}, layer {layer}",
                expected="every layer of every conditioning committed",
                remedy="report this model: its attention calls differ between passes",
            )
        return _packed(self.keys_of, name).unpacked(), _packed(self.values_of, name).unpacked()

    def copy_frames(self, target: KVSet) -> None:
        """Copy the frames that a smaller set still holds: all or none of slot 0, newest window."""
        held, tokens = self.occupancy, self.tokens_per_frame
        head = len(target.occupancy.anchor) * tokens
        tail = (held.frames - len(target.occupancy.window)) * tokens

        def picked(x: Packed | PackedFp8) -> Packed | PackedFp8:
            whole = x.unpacked()
            kept = torch.cat((whole[:, :head], whole[:, tail:]), dim=1)
            return target.packing.packed(kept, tokens)

        with torch.inference_mode(False), torch.no_grad():
            for name in self.keys_of:
                target.keys_of[name] = picked(_packed(self.keys_of, name))
                target.values_of[name] = picked(_packed(self.values_of, name))

    @property
    def nbytes(self) -> int:
        """Count the bytes held."""
        return sum(p.numel() * p.element_size() for p in self.parameters())


class KVPool(nn.Module):
    """Keep the most recently used K/V sets of one model by history key.

    Args:
        max_sets: Sets kept at most. Two serve re-rolling a chunk and continuing a stream.
        max_bytes: Bytes kept at most, or None for no cap. One set is always kept, since
            without it nothing could run.
        packing: How its sets keep keys and values.
    """

    def __init__(
        self, max_sets: int = 2, max_bytes: int | None = None, packing: Packing = PLAIN
    ) -> None:
        super().__init__()
        self.packing = packing
        self.max_sets = max_sets
        self.max_bytes = max_bytes
        self.expected_bytes = 0
        """Bytes that the next run will hold; a host may keep them free."""
        self.sets = nn.ModuleDict()

    def find(self, key: str) -> KVSet | None:
        """Return the set of a history, marking it as recently used."""
        if key not in self.sets:
            return None
        found = self.sets.pop(key)
        self.sets[key] = found
        return found  # type: ignore[return-value]  # ModuleDict is not generic

    def store(self, key: str, kv: KVSet, keep: str | None = None) -> None:
        """Add a set and drop the least recently used ones beyond the bounds.

        Args:
            key: History key of the set.
            kv: The set.
            keep: Key of a set to be spared while any other can go: the one that the running
                step started from, which must survive a failure.
        """
        if key in self.sets:
            self.sets.pop(key)
        self.sets[key] = kv
        droppable = [name for name in self.sets if name not in (key, keep)]
        if keep is not None and keep in self.sets and keep != key:
            droppable.append(keep)
        for name in droppable:
            if not self._over_bounds():
                break
            self.sets.pop(name)

    def make_room(self, *needed: str | None) -> None:
        """Drop all sets but these before another one is made, so that there never are more."""
        for name in list(self.sets):
            if len(self.sets) < self.max_sets:
                break
            if name not in needed:
                self.sets.pop(name)

    def drop(self, key: str) -> None:
        """Drop one set."""
        self.sets.pop(key)

    def clear(self) -> None:
        """Drop every set."""
        self.sets.clear()

    @property
    def nbytes(self) -> int:
        """Count the bytes held."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    def _over_bounds(self) -> bool:
        too_large = self.max_bytes is not None and self.nbytes > self.max_bytes
        return len(self.sets) > self.max_sets or too_large


def select_frames(
    plan: CommitPlan,
    locate: Callable[[FrameRef, FrameRef], Tensor],
    pool: Callable[[Tensor], Tensor],
    empty: Tensor,
) -> Tensor:
    """Gather the frames of a commit plan.

    Args:
        plan: The frames to keep, anchor first.
        locate: Returns the keys or values of a frame, (B, tokens, H, D), at the place in time of
            another one.
        pool: Averages those of one frame over the picture.
        empty: What to return when nothing is kept, (B, 0, H, D).

    Returns:
        A new tensor (B, frames x tokens per frame, H, D), in float32 if frames are averaged: a
        slow average would not move in a shorter type.
    """

    def frame(kept: FrameRef | FrameMix) -> Tensor:
        if isinstance(kept, FrameRef):
            return locate(kept, kept).clone()
        first = kept.terms[0][0]
        parts = [weight * locate(ref, first).float() for ref, weight in kept.terms]
        mixed = torch.stack(parts).sum(dim=0)
        return pool(mixed) if kept.pooled else mixed

    # Outside inference mode, so that the copy can be moved between devices by the host later.
    with torch.inference_mode(False), torch.no_grad():
        frames = [frame(kept) for kept in plan.anchor + plan.window]
        return torch.cat(frames, dim=1) if frames else empty.clone()


def _packed(layers: nn.ModuleDict, name: str) -> Packed | PackedFp8:
    return cast(Packed | PackedFp8, layers[name])


def _entry(conditioning: int, layer: int) -> str:
    return f"{conditioning}_{layer}"
