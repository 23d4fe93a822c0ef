"""Copies beside the computation never race with it: who reads and writes what is followed.

There is no card here. Copies and computation run one after the other, so the values are right
anyway; what is tested is that events order every access of two streams to the same memory.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adastate_core.anchors import policy_for
from adastate_core.attention import past_reader
from adastate_core.attention.block_attention import SelfAttention
from adastate_core.attention.chunk_attention import ChunkAttention
from adastate_core.attention.commit_attention import CommitAttention
from adastate_core.attention.geometry import AttentionGeometry
from adastate_core.attention.kv_cache import KVCache
from adastate_core.attention.kv_format import KVFormat
from adastate_core.attention.layer_copies import CardStreams, LayerCopies
from adastate_core.attention.rope import TemporalRope
from adastate_core.config import StreamConfig

CPU = torch.device("cpu")
TOKENS, HEADS, CHANNELS = 3, 2, 8
Clock = dict[str, int]


class FollowedStream:
    """A stream that knows what has happened before its next operation."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock: Clock = {}

    def wait_event(self, clock: Clock) -> None:
        for name, time in clock.items():
            self.clock[name] = max(time, self.clock.get(name, 0))

    def wait_stream(self, other: FollowedStream) -> None:
        self.wait_event(other.clock)


class FollowedStreams(CardStreams, TorchDispatchMode):
    """Two streams, and every access to memory that nothing has put in order."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self._compute, self._beside = FollowedStream("compute"), FollowedStream("beside")
        self._now = self._compute
        self._written: dict[int, tuple[str, int]] = {}
        self._read: dict[int, dict[str, int]] = {}
        self._alive: list[Tensor] = []
        self.races: list[str] = []
        self.copies = 0

    def new(self) -> FollowedStream:
        return self._beside

    def current(self) -> FollowedStream:
        return self._now

    @contextlib.contextmanager
    def on(self, stream: FollowedStream) -> Iterator[None]:
        before, self._now = self._now, stream
        yield
        self._now = before

    def mark(self, stream: FollowedStream) -> Clock:
        return dict(stream.clock)

    def keep(self, tensor: Tensor, stream: FollowedStream) -> None:
        pass

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.is_view:
            return out
        stream = self._now
        stream.clock[stream.name] = stream.clock.get(stream.name, 0) + 1
        time = stream.clock[stream.name]
        written = {id(t) for t in tree_leaves(out)}
        self.copies += stream is self._beside
        for tensor in {id(t): t for t in tree_leaves((args, kwargs, out))}.values():
            if not isinstance(tensor, Tensor) or not tensor.numel():
                continue
            self._alive.append(tensor)  # so that no other tensor gets its address
            place = tensor.untyped_storage().data_ptr()
            writes = id(tensor) in written
            others = [self._written.get(place)]
            if writes:
                others += list(self._read.get(place, {}).items())
            for other in others:
                if other is not None and stream.clock.get(other[0], 0) < other[1]:
                    self.races.append(f"{func} on {stream.name} beside {other[0]}")
            if writes:
                self._written[place] = stream.name, time
            else:
                self._read.setdefault(place, {})[stream.name] = time
        return out


def stream_of(
    form: KVFormat, layers: int, config: StreamConfig, copies: FollowedStreams | None = None
) -> list[Tensor]:
    """Run some chunks of a stream's attention; return every output."""
    geometry = AttentionGeometry(layers, TOKENS, 1, TemporalRope(((0.9, 0.13),)))
    source, found = torch.Generator().manual_seed(5), []
    past = {0: KVCache.empty(form), 1: KVCache.empty(form)}
    for chunk in range(4):
        given = (config, policy_for(config), past, geometry)
        first = chunk * config.chunk_frames
        commit = CommitAttention(*given, first_frame=first)
        for view in (*[ChunkAttention(*given, first_frame=first)] * 2, commit):
            for layer in range(layers):
                shape = (2, view.frames * TOKENS, HEADS, CHANNELS)
                q, k, v = (torch.randn(shape, generator=source) for _ in range(3))
                found.append(view.attend(SelfAttention(layer, (0, 1), q, k, v)))
        past = commit.committed()
    return found


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> FollowedStreams:
    """Let every reader bring its layers over two followed streams."""
    streams = FollowedStreams()

    class Reader(past_reader.PastReader):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs, copies=LayerCopies(CPU, streams))

    monkeypatch.setattr("adastate_core.attention.chunk_attention.PastReader", Reader)
    return streams


CONFIGS = {
    "adaptive": StreamConfig(chunk_frames=2, window_frames=2),
    "rolling": StreamConfig(anchor="rolling", chunk_frames=1, window_frames=1, anchor_frames=4),
    "apart": StreamConfig(chunk_frames=2, window_frames=2, content_sees_current_state=False),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("precision", "layers"), list(itertools.product(("model", "fp8"), (1, 2, 3, 5)))
)
def test_layers_that_come_beside_the_computation_are_those_kept(
    name: str, precision: Any, layers: int, request: pytest.FixtureRequest
) -> None:
    form = KVFormat(precision, CPU)
    expected = stream_of(form, layers, CONFIGS[name])
    streams: FollowedStreams = request.getfixturevalue("followed")
    with streams:
        found = stream_of(form, layers, CONFIGS[name])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert streams.copies
    assert streams.races == []


@pytest.mark.parametrize("missing", ["wait_event", "wait_stream"])
def test_a_wait_that_is_left_out_is_found(
    missing: str, followed: FollowedStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FollowedStream, missing, lambda self, other: None)
    with followed:
        stream_of(KVFormat(device=CPU), 3, CONFIGS["adaptive"])
    assert followed.races


def test_two_layers_take_the_room_of_all(followed: FollowedStreams) -> None:
    copies = LayerCopies(CPU, followed)
    kept = [(torch.full((1, 4, 2), float(i)),) for i in range(9)]
    rooms = set()
    for layer, parts in enumerate(kept):
        if layer + 1 < len(kept):
            copies.begin(layer + 1, kept[layer + 1], ((0, 4),))
        with copies.taken(layer, parts, ((0, 4),)) as (x,):
            assert torch.equal(x, parts[0])
            rooms.add(x.data_ptr())
    assert len(rooms) == 2


def test_frames_are_picked_on_the_way(followed: FollowedStreams) -> None:
    copies, x = LayerCopies(CPU, followed), torch.arange(2 * 6 * 2).view(2, 6, 2)
    with copies.taken("layer", (x,), ((0, 1), (3, 2))) as (found,):
        assert torch.equal(found, x[:, [0, 3, 4]])
