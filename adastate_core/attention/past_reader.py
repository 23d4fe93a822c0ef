"""The cached frames of a chunk, as its attention takes them.

Frames, and the units of other tracks that belong to them, are picked, decoded and rotated to the
chunk's indices where they lie in front of the block's own keys and values. In the form in which the
model computed them they are kept ready for the other steps of the chunk; a form that saves memory
is read again in every forward, a layer ahead where the card has to be brought it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import LayoutError
from ..layout import TrackName
from .block_attention import SelfAttention
from .geometry import AttentionGeometry
from .kv_cache import KVCache, KVEntry
from .kv_format import EncodedKV
from .layer_copies import LayerCopies, Stretch
from .rope import TemporalRope

Where = tuple[int, KVEntry]
"""A conditioning and an entry of its cache."""


@dataclass(frozen=True, slots=True)
class PastReading:
    """What is read of one track of the cache.

    Args:
        picked: Positions of the units, in the order in which they are attended to.
        offsets: By how much the keys of each are rotated.
    """

    picked: tuple[int, ...]
    offsets: tuple[float, ...]


class PastReader:
    """The reader of one chunk's past.

    Args:
        past: Keys and values committed so far, by conditioning index.
        readings: What is read of each track.
        geometry: How the model orders and rotates tokens.
        keep_ready: Whether what was read stays ready for the other steps.
        copies: How layers are brought to the device of the model; None where they are there, or
            else is found out.
    """

    def __init__(
        self,
        past: Mapping[int, KVCache],
        readings: Mapping[TrackName, PastReading],
        geometry: AttentionGeometry,
        *,
        keep_ready: bool,
        copies: LayerCopies | None = None,
    ) -> None:
        self._past, self._readings = past, readings
        self._geometry, self._tracks = geometry, geometry.tracks
        self._picked = {name: _stretches(of.picked) for name, of in readings.items()}
        self._order = [
            KVEntry(0, call.name, track) for call in geometry.calls.tracked for track in call.past
        ]
        self._keep_ready = keep_ready
        self._ready: dict[Where, tuple[Tensor, Tensor]] = {}
        self._whole: dict[Where, tuple[Tensor, Tensor]] = {}
        self._copies = copies
        self._following: dict[Where, Where] = {}
        self._before: Where | None = None

    def write(self, call: SelfAttention, track: TrackName, k: Tensor, v: Tensor) -> None:
        """Write the past of one track of a call.

        Args:
            call: The attention that attends to it.
            track: The track.
            k: Room for its keys, (B, picked units x tokens, H, D).
            v: Room for its values, same shape.

        Raises:
            LayoutError: If the cached frames do not fit the block.
        """
        size, rope = k.shape[0] // len(call.conditionings), self._geometry.rope_of(call.call)
        entry, offsets = KVEntry(call.layer, call.call.name, track), self._readings[track].offsets
        for index, conditioning in enumerate(call.conditionings):
            # Slices one by one: of several views made at once none may be written to in training.
            own = slice(index * size, (index + 1) * size)
            keys, values, where = k[own], v[own], (conditioning, entry)
            if self._keep_ready:
                ready = self._ready.get(where)
                if ready is None:
                    ready = self._made_ready(where, keys, rope)
                keys.copy_(ready[0])
                values.copy_(ready[1])
            else:
                self._write(where, keys, values)
        if not self._keep_ready:
            rope.rotate_(k, offsets)

    def whole(self, conditioning: int, entry: KVEntry, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return all cached keys and values of an entry as they were projected.

        What is written of it next comes from them.

        Args:
            conditioning: Conditioning index.
            entry: The entry.
            like: Keys of the block.

        Raises:
            LayoutError: If the cached frames do not fit the block.
        """
        where = (conditioning, entry)
        if any(other.layer != entry.layer for _, other in self._whole):
            self._whole.clear()
        if where not in self._whole:
            encoded = self._encoded(where, like)
            if self._is_here(encoded, like):
                keys, values = (each.decode() for each in encoded)
            else:
                units = sum(self._past[conditioning].cached.units(entry.track))
                every = _stretches(tuple(range(units)))
                with self._brought(where, encoded, every, like, whole=True) as parts:
                    keys, values = (
                        _written(each, of, like) for each, of in zip(encoded, parts, strict=True)
                    )
            self._whole[where] = keys, values
        return self._whole[where]

    def _write(self, where: Where, keys: Tensor, values: Tensor) -> None:
        track = where[1].track
        picked, room = self._picked[track], [self._by_unit(x, track) for x in (keys, values)]
        if where in self._whole:
            for x, out in zip(self._whole[where], room, strict=True):
                out.copy_(_picked(self._by_unit(x, track), picked))
            return
        encoded = self._encoded(where, keys)
        with self._brought(where, encoded, picked, keys) as parts:
            for each, of, out in zip(encoded, parts, room, strict=True):
                each.write(of, out)

    def _made_ready(self, where: Where, like: Tensor, rope: TemporalRope) -> tuple[Tensor, Tensor]:
        track = where[1].track
        keys, values = (
            _picked(self._by_unit(each.decode(), track), self._picked[track]).flatten(1, 2).to(like)
            for each in self._encoded(where, like)
        )
        self._ready[where] = rope.rotate(keys, self._readings[track].offsets), values
        return self._ready[where]

    def _by_unit(self, x: Tensor, track: TrackName) -> Tensor:
        units: Tensor = x.unflatten(1, (-1, self._tracks[track].tokens))
        return units

    def _is_here(self, encoded: tuple[EncodedKV, EncodedKV], like: Tensor) -> bool:
        return self._copies is None and encoded[0].parts()[0].device == like.device

    @contextmanager
    def _brought(
        self,
        where: Where,
        encoded: tuple[EncodedKV, EncodedKV],
        picked: tuple[Stretch, ...],
        like: Tensor,
        *,
        whole: bool = False,
    ) -> Iterator[list[tuple[Tensor, ...]]]:
        """Bring units of an entry to the device of the model, and the next one on its way.

        Args:
            where: The entry.
            encoded: What is kept of it.
            picked: The units.
            like: Keys of the block.
            whole: Whether those are all of them, of the next entry too.

        Returns:
            The parts of the keys and of the values there.
        """
        parts, device = [each.parts() for each in encoded], like.device
        if device.type == "cuda" and not self._is_here(encoded, like):
            self._copies = self._copies or LayerCopies(device)
        if self._copies is None:
            yield [tuple(_picked(p, picked).to(device) for p in of) for of in parts]
            return
        self._begin_next(where, whole=whole)
        with self._copies.taken(where, (*parts[0], *parts[1]), picked) as on_card:
            yield [on_card[: len(parts[0])], on_card[len(parts[0]) :]]

    def _begin_next(self, where: Where, *, whole: bool) -> None:
        """Have the entry after this one copied: the one that came after it in the last forward."""
        if self._before is not None:
            self._following[self._before] = where
        self._before = where
        following = self._following.get(where) or self._expected(where)
        cache, entry = self._past.get(following[0]), following[1]
        if self._copies is not None and cache is not None and entry in cache:
            keys, values = cache.encoded(entry)
            units = sum(cache.cached.units(entry.track))
            every = ((0, units),) if units else ()
            picked = every if whole else self._picked[entry.track]
            self._copies.begin(following, (*keys.parts(), *values.parts()), picked)

    def _expected(self, where: Where) -> Where:
        """Return what follows an entry where no forward has shown it yet."""
        conditioning, entry = where
        at = self._order.index(entry._replace(layer=0)) + 1
        layer, following = divmod(at, len(self._order))
        return conditioning, self._order[following]._replace(layer=entry.layer + layer)

    def _encoded(self, where: Where, like: Tensor) -> tuple[EncodedKV, EncodedKV]:
        conditioning, entry = where
        if conditioning not in self._past:
            raise LayoutError(
                "KV cache",
                problem="a node asks for a prompt that this stream does not have",
                seen=f"nothing cached for conditioning {conditioning}",
                expected="a conditioning under which the stream was committed",
                remedy="remove guidance nodes that add a prompt of their own",
            )
        encoded = self._past[conditioning].encoded(entry)
        heads = tuple(encoded[0].parts()[0].shape[3:])
        if heads != tuple(like.shape[2:]):
            raise LayoutError(
                "KV cache",
                problem="the memory of this stream belongs to another model",
                seen=f"heads x channels {heads}",
                expected=f"{tuple(like.shape[2:])}",
                remedy="start a new stream with this model",
            )
        return encoded


def _stretches(picked: tuple[int, ...]) -> tuple[Stretch, ...]:
    """Join positions that follow each other.

    >>> _stretches((0, 3, 4, 5))
    ((0, 1), (3, 3))
    """
    joined: list[Stretch] = []
    for position in picked:
        if joined and sum(joined[-1]) == position:
            joined[-1] = (joined[-1][0], joined[-1][1] + 1)
        else:
            joined.append((position, 1))
    return tuple(joined)


def _picked(x: Tensor, frames: tuple[Stretch, ...]) -> Tensor:
    """Return units of a tensor that has them along the second axis; in a row, they are a view."""
    pieces = [x[:, first : first + count] for first, count in frames]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


def _written(encoded: EncodedKV, parts: tuple[Tensor, ...], like: Tensor) -> Tensor:
    """Return what parts decode to, (B, S, H, D), in memory of its own."""
    x = torch.empty(parts[0].shape, dtype=parts[-1].dtype, device=like.device)
    encoded.write(parts, x)
    return x.flatten(1, 2)
