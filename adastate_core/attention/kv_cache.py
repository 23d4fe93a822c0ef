"""Keys and values of past frames: immutable sets, and the pool that keeps the newest of them.

A `KVCache` is what every layer remembers of a stream under one conditioning, at one point of it. A
commit makes a new set and leaves the old one as it was, so branches of a stream never disturb each
other. The positive and the negative conditioning of a guided stream have a set each: neither sees
the other's keys. Sets are `nn.Module`s of parameters, because that is the form in which a host's
memory manager counts and moves tensors; `kv_format` says in which form and where. The pool is
bounded by bytes; whatever it lacks is rebuilt by `replay`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import LayoutError
from ..layout import CachedFrames, CommitPlan, FrameMix, FrameRef
from .kv_format import PLAIN, Fp8KV, KVFormat, PlainKV


class KVCache(nn.Module):
    """Keys and values of every layer at one point of a stream, under one conditioning.

    Keys are stored as the model wrote them, with their native temporal index, and turned when
    they are read: storing turned keys would lose bits at every chunk.

    Args:
        cached: The frames held, the same in every layer.
        tokens_per_frame: Tokens of one latent frame.
        kv_format: In which form and where keys and values are kept.
    """

    def __init__(
        self, cached: CachedFrames, tokens_per_frame: int, kv_format: KVFormat = PLAIN
    ) -> None:
        super().__init__()
        self.cached = cached
        self.tokens_per_frame = tokens_per_frame
        self.kv_format = kv_format
        self.approximate = False
        """Whether it was rebuilt from less than the record, or with other weights."""
        self.keys_of = nn.ModuleDict()
        self.values_of = nn.ModuleDict()

    @classmethod
    def empty(cls, tokens_per_frame: int, kv_format: KVFormat = PLAIN) -> KVCache:
        """Make the set of a stream that has committed nothing."""
        return cls(CachedFrames(), tokens_per_frame, kv_format)

    def put(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store the keys and values of one layer, (B, S, H, D).

        Raises:
            LayoutError: If the layer is stored already.
        """
        name = str(layer)
        if name in self.keys_of:
            raise LayoutError(
                "commit pass",
                seen=f"layer {layer} computed twice",
                expected="every layer once, since its keys and values become the memory",
                remedy="remove the node that runs a block of this model more than once",
            )
        self.keys_of[name] = self.kv_format.encode(keys, self.tokens_per_frame)
        self.values_of[name] = self.kv_format.encode(values, self.tokens_per_frame)

    def get(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values of one layer, (B, S, H, D), where they are kept.

        Raises:
            LayoutError: If this layer was not part of the commit.
        """
        name = str(layer)
        if name not in self.keys_of:
            raise LayoutError(
                "attention cache",
                seen=f"no keys for layer {layer}",
                expected="every layer committed",
                remedy="report this model: its attention calls differ between passes",
            )
        return _packed(self.keys_of, name).decode(), _packed(self.values_of, name).decode()

    def copy_frames(self, target: KVCache) -> None:
        """Copy the frames that a smaller set still holds: all or none of slot 0, newest window."""
        cached, tokens = self.cached, self.tokens_per_frame
        head = len(target.cached.anchor) * tokens
        tail = (cached.frames - len(target.cached.window)) * tokens

        def picked(x: PlainKV | Fp8KV) -> PlainKV | Fp8KV:
            whole = x.decode()
            kept = torch.cat((whole[:, :head], whole[:, tail:]), dim=1)
            return target.kv_format.encode(kept, tokens)

        with torch.inference_mode(False), torch.no_grad():
            for name in self.keys_of:
                target.keys_of[name] = picked(_packed(self.keys_of, name))
                target.values_of[name] = picked(_packed(self.values_of, name))

    @property
    def nbytes(self) -> int:
        """Count the bytes held."""
        return sum(p.numel() * p.element_size() for p in self.parameters())


_LINE_SETS = 2


class KVCachePool(nn.Module):
    """The K/V sets of one model by history key, the most recently used last.

    Sets that were made one after another are a line. Of each line the pool keeps the newest set
    and one more: the set a running step began from, or the one before. So a stream takes two sets
    however long it is, and as many streams stay warm as there are bytes for.

    Args:
        max_bytes: Bytes kept at most, or None for no cap. What a running step needs is kept
            beyond that, since without it nothing could run.
        kv_format: How its sets keep keys and values.
    """

    def __init__(self, max_bytes: int | None = None, kv_format: KVFormat = PLAIN) -> None:
        super().__init__()
        self.kv_format = kv_format
        self.max_bytes = max_bytes
        self.expected_bytes = 0
        """Bytes that the next run will hold; a host may keep them free."""
        self.sets = nn.ModuleDict()
        self._lines: list[list[str]] = []

    def find(self, key: str) -> KVCache | None:
        """Return the set of a history, marking it as recently used."""
        if key not in self.sets:
            return None
        found = self.sets.pop(key)
        self.sets[key] = found
        return found  # type: ignore[return-value]  # ModuleDict is not generic

    def store(
        self, key: str, kv: KVCache, parent: str | None = None, keep: Collection[str] = ()
    ) -> None:
        """Add a set, then evict what its line and the bounds do not allow.

        Args:
            key: History key of the set.
            kv: The set.
            parent: History key of the set that it was made from, if it was made from one.
            keep: Keys of sets to be spared: those that the running step began from, which must
                survive a failure, and those that it goes on with.
        """
        if key in self.sets:
            self.evict(key)
        self.sets[key] = kv
        line = next((line for line in self._lines if line[-1] == parent), None)
        if line is None:
            self._lines.append([key])
        else:
            line.append(key)
        self._evict_from_line(key, keep)
        self._evict_least_recent(0, {key, *keep})

    def evict_for(self, parent: str | None, keep: Collection[str] = ()) -> None:
        """Evict what another set, made from `parent`, makes superfluous before it is made."""
        needed = {*keep, *(() if parent is None else (parent,))}
        for line in self._lines:
            if line[-1] == parent:
                for name in [name for name in line if name not in needed]:
                    self.evict(name)
        size = max((kv.nbytes for name, kv in self._named() if name in needed), default=0)
        self._evict_least_recent(size, needed)

    def evict(self, key: str) -> None:
        """Evict one cache."""
        self.sets.pop(key)
        self._lines = [[n for n in line if n != key] for line in self._lines if line != [key]]

    def caches(self) -> Iterator[KVCache]:
        """Return all caches, the most recently used last."""
        return (cast(KVCache, kv) for kv in self.sets.values())

    def clear(self) -> None:
        """Evict every cache."""
        self.sets.clear()
        self._lines.clear()

    @property
    def nbytes(self) -> int:
        """Count the bytes held."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    def _named(self) -> list[tuple[str, KVCache]]:
        return [(name, cast(KVCache, kv)) for name, kv in self.sets.items()]

    def _evict_from_line(self, key: str, keep: Collection[str]) -> None:
        """Evict caches of the line of a key beyond two, those to be spared last."""
        line = next(line for line in self._lines if key in line)
        older = [name for name in line if name != key]
        for name in sorted(older, key=lambda name: name in keep)[: len(line) - _LINE_SETS]:
            self.evict(name)

    def _evict_least_recent(self, room: int, keep: Collection[str]) -> None:
        """Evict the least recently used caches until `room` more bytes are within the cap."""
        if self.max_bytes is None:
            return
        for name in [name for name in self.sets if name not in keep]:
            if self.nbytes + room <= self.max_bytes:
                break
            self.evict(name)


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


def _packed(layers: nn.ModuleDict, name: str) -> PlainKV | Fp8KV:
    return cast(PlainKV | Fp8KV, layers[name])
