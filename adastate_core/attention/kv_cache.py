"""The KV caches of past frames, which never change, and the LRU pool that keeps the newest.

A `KVCache` has the keys and values of every layer, for one conditioning and one point of a stream.
A commit makes a new cache and leaves the old one as it was, so branches of a stream never disturb
each other. The positive and the negative conditioning of a guided stream have a cache each: neither
sees the other's keys. Caches are `nn.Module`s of parameters, because that is the form in which a
host's memory manager counts and moves tensors; `kv_format` says how they are encoded and where they
are kept. The pool is bounded by bytes; whatever it lacks is rebuilt by `rollout.replay`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ..errors import LayoutError
from ..layout import CachedFrames, CommitPlan, FrameMix, FrameRef, TrackName
from .kv_format import PLAIN, EncodedKV, KVFormat
from .layers import SELF


class KVEntry(NamedTuple):
    """What the keys and values of a cache are found by.

    Args:
        layer: Index of the layer.
        call: Name of the attention call that attends to them.
        track: The track whose they are.
    """

    layer: int
    call: str = SELF.name
    track: TrackName = "video"

    @property
    def name(self) -> str:
        """Return it as a name of a module."""
        return f"{self.layer}-{self.call}-{self.track}"


class KVCache(nn.Module):
    """Keys and values of every layer at one point of a stream, under one conditioning.

    Keys are stored as the model projected them, at their native temporal index, and rotated when
    they are read: storing rotated keys would lose bits at every chunk.

    Args:
        cached: The frames held, the same in every layer.
        kv_format: How keys and values are encoded, and where they are kept.
    """

    def __init__(self, cached: CachedFrames, kv_format: KVFormat = PLAIN) -> None:
        super().__init__()
        self.cached = cached
        self.kv_format = kv_format
        self.approximate = False
        """Whether it was rebuilt from less than the whole history, or with other weights."""
        self.keys_of = nn.ModuleDict()
        self.values_of = nn.ModuleDict()
        self._entries: list[KVEntry] = []
        self.nbytes = 0
        """Bytes held."""
        self._arrives: torch.cuda.Event | None = None
        """When what is copied to page-locked memory without waiting is there."""

    @classmethod
    def empty(cls, kv_format: KVFormat = PLAIN) -> KVCache:
        """Make the cache of a stream that has committed nothing."""
        return cls(CachedFrames(), kv_format)

    def put(self, entry: KVEntry, keys: Tensor, values: Tensor, tokens: int) -> None:
        """Store the keys and values of one call of a layer.

        Args:
            entry: What they are found by.
            keys: (B, S, H, D), unit after unit.
            values: Same shape.
            tokens: Tokens of a unit.

        Raises:
            LayoutError: If they are stored already.
        """
        if entry in self:
            raise LayoutError(
                "commit pass",
                problem=f"layer {entry.layer} of the model ran twice",
                seen=f"layer {entry.layer} computed twice",
                expected="every layer once, since its keys and values go into the KV cache",
                remedy="remove the node that runs a block of this model more than once",
            )
        encode = self.kv_format.encode
        self._keep(entry, encode(keys, tokens), encode(values, tokens))
        if self.kv_format.pinned and keys.is_cuda:
            self._arrives = self._arrives or torch.cuda.Event()
            self._arrives.record(torch.cuda.current_stream(keys.device))

    def get(self, entry: KVEntry) -> tuple[Tensor, Tensor]:
        """Return the keys and values of one call of a layer, (B, S, H, D), where they are kept.

        Raises:
            LayoutError: If this layer was not part of the commit.
        """
        keys, values = self.encoded(entry)
        return keys.decode(), values.decode()

    def encoded(self, entry: KVEntry) -> tuple[EncodedKV, EncodedKV]:
        """Return the keys and values of one call of a layer as they are kept.

        Raises:
            LayoutError: If this layer was not part of the commit.
        """
        if entry not in self:
            raise LayoutError(
                "KV cache",
                problem=f"layer {entry.layer} of the model was not run",
                seen=f"no keys for layer {entry.layer}",
                expected="every layer committed",
                remedy="remove nodes that skip layers of this model",
            )
        return _encoded(self.keys_of, entry.name), _encoded(self.values_of, entry.name)

    def __contains__(self, entry: KVEntry) -> bool:
        """Say whether something is stored."""
        return entry.name in self.keys_of

    def copy_frames(self, target: KVCache) -> None:
        """Copy the frames that a smaller cache has: all or none of slot 0, the newest window."""
        first = len(target.cached.anchor)
        newest = self.cached.frames - len(target.cached.window)

        def copied(x: EncodedKV, units: tuple[int, ...]) -> EncodedKV:
            whole, tokens = x.decode(), x.parts()[0].shape[2]
            head, tail = sum(units[:first]) * tokens, sum(units[:newest]) * tokens
            kept = torch.cat((whole[:, :head], whole[:, tail:]), dim=1)
            return target.kv_format.encode(kept, tokens)

        if self._arrives is not None:
            self._arrives.synchronize()
        with torch.inference_mode(False), torch.no_grad():
            for entry in self._entries:
                units = self.cached.units(entry.track)
                keys, values = self.encoded(entry)
                target._keep(entry, copied(keys, units), copied(values, units))

    def _keep(self, entry: KVEntry, keys: EncodedKV, values: EncodedKV) -> None:
        self._entries.append(entry)
        self.keys_of[entry.name], self.values_of[entry.name] = keys, values
        # Counted as they come: the pool asks before every commit, and a card waits meanwhile.
        for encoded in (keys, values):
            self.nbytes += sum(p.numel() * p.element_size() for p in encoded.parameters())


_CACHES_PER_LINE = 2


class KVCachePool(nn.Module):
    """The KV caches of one model by history key, an LRU pool: the most recently used is last.

    Caches that were made one after another are a line. Of each line the pool keeps the newest and
    one more: the cache a running step began from, or the one before. So a stream takes two caches
    however long it is, and as many streams stay warm as there are bytes for.

    >>> pool, empty = KVCachePool(), KVCache.empty()
    >>> pool.store("chunk 0", empty)
    >>> pool.store("chunk 1", empty, parent="chunk 0")
    >>> pool.store("chunk 2", empty, parent="chunk 1")
    >>> pool.find("chunk 0") is None, pool.find("chunk 2") is empty
    (True, True)

    Args:
        max_bytes: Bytes kept at most, or None for no limit. What a running step needs is kept
            beyond that, since without it nothing could run.
        kv_format: How its caches encode keys and values, and where they keep them.
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
        """Return the cache of a history, marking it as recently used."""
        if key not in self.sets:
            return None
        found = self.sets.pop(key)
        self.sets[key] = found
        return found  # type: ignore[return-value]  # ModuleDict is not generic

    def store(
        self, key: str, kv: KVCache, parent: str | None = None, keep: Collection[str] = ()
    ) -> None:
        """Add a cache, then evict what its line and the limit do not allow.

        Args:
            key: History key of the cache.
            kv: The cache.
            parent: History key of the cache that it was made from, if it was made from one.
            keep: Keys that are not evicted: those that the running step began from, which must
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
        """Evict, before a cache is made from `parent`, what it will make superfluous."""
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
        return sum(kv.nbytes for kv in self.caches())

    def _named(self) -> list[tuple[str, KVCache]]:
        return [(name, cast(KVCache, kv)) for name, kv in self.sets.items()]

    def _evict_from_line(self, key: str, keep: Collection[str]) -> None:
        """Evict all but two caches of the line of a key, those to keep last."""
        line = next(line for line in self._lines if key in line)
        older = [name for name in line if name != key]
        for name in sorted(older, key=lambda name: name in keep)[: len(line) - _CACHES_PER_LINE]:
            self.evict(name)

    def _evict_least_recent(self, room: int, keep: Collection[str]) -> None:
        """Evict the least recently used caches until `room` more bytes are within the limit."""
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
        pool: Averages those of one frame over the image.
        empty: What to return when nothing is kept, (B, 0, H, D).

    Returns:
        A new tensor (B, frames x tokens per frame, H, D), in float32 if frames are averaged: a
        slow average would not move in a shorter type.
    """

    def frame(kept: FrameRef | FrameMix) -> Tensor:
        if isinstance(kept, FrameRef):
            return locate(kept, kept)
        first = kept.terms[0][0]
        parts = [weight * locate(ref, first).float() for ref, weight in kept.terms]
        mixed = torch.stack(parts).sum(dim=0)
        return pool(mixed) if kept.pooled else mixed

    # Outside inference mode, so that the copy can be moved between devices by the host later.
    with torch.inference_mode(False), torch.no_grad():
        frames = [frame(kept) for kept in plan.anchor + plan.window]
        return torch.cat(frames, dim=1) if frames else empty.clone()


def require_layers(cache: KVCache, layers: int, of_layer: int) -> None:
    """Refuse a cache that lacks a layer.

    Args:
        cache: The cache.
        layers: Layers of the model.
        of_layer: Entries of a layer.

    Raises:
        LayoutError: If the forwards that made it did not compute every layer.
    """
    if len(cache.keys_of) == layers * of_layer:
        return
    ran = len(cache.keys_of) // of_layer
    raise LayoutError(
        "commit pass",
        problem=f"only {ran} of {layers} layers of the model ran",
        seen=f"keys of {ran} layers",
        expected=f"those of all {layers} layers",
        remedy="remove nodes that skip steps or layers of this model",
    )


class UnitRange(NamedTuple):
    """Units in a row of the block, or of the cache before it."""

    in_block: bool
    first: int
    units: int


def select_units(
    ranges: Sequence[UnitRange], past: Tensor | None, block: Tensor, tokens: int
) -> Tensor:
    """Gather units of a track as they are.

    Args:
        ranges: The units to keep, in order.
        past: Cached keys or values, (B, S, H, D), None if there are none.
        block: Those of the block.
        tokens: Tokens of a unit.
    """
    with torch.inference_mode(False), torch.no_grad():
        kept = []
        for in_block, first, count in ranges:
            source = block if in_block else past
            if count:
                assert source is not None  # a plan refers to cached units only if there are any
                kept.append(source[:, first * tokens : (first + count) * tokens])
        return torch.cat(kept, dim=1) if kept else block[:, :0].clone()


def _encoded(layers: nn.ModuleDict, name: str) -> EncodedKV:
    return cast(EncodedKV, layers[name])
