"""Cached layers on their way to a card: each is copied while the one before is computed.

A copy runs beside the computation only on a stream of its own and out of page-locked memory. Two
buffers take turns, so that a layer takes the room of two whatever the number of layers, and the
processor never waits: events tell the streams when a buffer is full and when it is free again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

Stretch = tuple[int, int]
"""Frames in a row: the first one, and how many."""


class CardStreams:
    """Streams and events of a card, as torch makes them.

    Args:
        device: The card.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def new(self) -> torch.cuda.Stream:
        """Make a stream."""
        return torch.cuda.Stream(self._device)

    def current(self) -> torch.cuda.Stream:
        """Return the stream on which the model computes."""
        return torch.cuda.current_stream(self._device)

    def on(self, stream: torch.cuda.Stream) -> AbstractContextManager[object]:
        """Queue on a stream what is done in the context."""
        context: AbstractContextManager[object] = torch.cuda.stream(stream)
        return context

    def mark(self, stream: torch.cuda.Stream) -> torch.cuda.Event:
        """Return an event that happens when a stream has done what is queued so far."""
        event = torch.cuda.Event()
        event.record(stream)
        return event

    def keep(self, tensor: Tensor, stream: torch.cuda.Stream) -> None:
        """Have the room of a tensor not given away before a stream has done with it."""
        tensor.record_stream(stream)


class LayerCopies:
    """The copies of one chunk's cached layers to a card.

    Args:
        device: The card.
        streams: Its streams.
    """

    def __init__(self, device: torch.device, streams: CardStreams | None = None) -> None:
        self._device, self._streams = device, streams or CardStreams(device)
        self._stream = self._streams.new()
        self._buffers = [_Buffer(), _Buffer()]
        self._begun: dict[Hashable, _Buffer] = {}

    def begin(self, key: Hashable, parts: tuple[Tensor, ...], frames: tuple[Stretch, ...]) -> None:
        """Begin to copy a layer that is needed next; what was begun and is not needed is dropped.

        Args:
            key: What it is asked for by.
            parts: Its tensors, with the frames along the second axis.
            frames: The frames to copy, in order.
        """
        if key in self._begun:
            return
        busy = list(self._begun.values())
        buffer = next((b for b in self._buffers if b not in busy), self._buffers[0])
        self._begun = {k: b for k, b in self._begun.items() if b is not buffer}
        shapes = [(_of_frames(p, frames), p.dtype) for p in parts]
        if [(tuple(t.shape), t.dtype) for t in buffer.tensors] != shapes:
            self._allocate(buffer, shapes)
        if buffer.freed is not None:
            self._stream.wait_event(buffer.freed)
        with self._streams.on(self._stream):
            for source, target in zip(parts, buffer.tensors, strict=True):
                copy_frames(source, target, frames)
        buffer.filled = self._streams.mark(self._stream)
        self._begun[key] = buffer

    @contextmanager
    def taken(
        self, key: Hashable, parts: tuple[Tensor, ...], frames: tuple[Stretch, ...]
    ) -> Iterator[tuple[Tensor, ...]]:
        """Give a layer to the computation that is queued in the context; arguments as in `begin`.

        Returns:
            The tensors on the card, which the next layer but one overwrites.
        """
        self.begin(key, parts, frames)
        buffer = self._begun.pop(key)
        current = self._streams.current()
        assert buffer.filled is not None  # it was begun
        current.wait_event(buffer.filled)
        yield tuple(buffer.tensors)
        buffer.freed = self._streams.mark(current)

    def _allocate(self, buffer: _Buffer, shapes: list[tuple[tuple[int, ...], torch.dtype]]) -> None:
        buffer.tensors = [
            torch.empty(shape, dtype=dtype, device=self._device) for shape, dtype in shapes
        ]
        for tensor in buffer.tensors:
            # When the chunk ends, a layer that nobody needs may still be on its way.
            self._streams.keep(tensor, self._stream)
        # What had this room before may still be read; and what is copied may still be written.
        self._stream.wait_stream(self._streams.current())
        buffer.freed = None


@dataclass(slots=True, eq=False)
class _Buffer:
    """Room for one layer, and when its stream may go on."""

    tensors: list[Tensor] = field(default_factory=list)
    filled: torch.cuda.Event | None = None
    freed: torch.cuda.Event | None = None


def copy_frames(source: Tensor, target: Tensor, frames: tuple[Stretch, ...]) -> None:
    """Copy frames into a tensor that has room for these; both have them along the second axis."""
    at = 0
    for first, count in frames:
        rows = [(source[:, first : first + count], target[:, at : at + count])]
        if source.device != target.device and count < source.shape[1]:
            # Only what lies in one piece is copied beside the computation.
            rows = list(zip(*rows[0], strict=True))
        for one, to in rows:
            to.copy_(one, non_blocking=True)
        at += count


def _of_frames(x: Tensor, frames: tuple[Stretch, ...]) -> tuple[int, ...]:
    return (x.shape[0], sum(count for _, count in frames), *x.shape[2:])
