"""One chunk's self-attention: cached keys and values in front of the block's own.

    [ anchor | window ] [ state | content ]
         KV cache          the block

That is one track, the video's; others, such as sound, have their past and their part of the block
beside it. The host calls `attend` for every attention of the model that sees the past; the model
itself is not changed, and a mask is used only to weaken or strengthen slot 0. Keys are cached as
the model projected them, at the temporal index that it gave them, and rotated to the index in this
chunk when they are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from ..anchors import AnchorPolicy
from ..config import StreamConfig
from ..errors import ConfigError
from ..layout import SlotLayout, TrackName
from .block_attention import SelfAttention
from .geometry import AttentionGeometry, parts
from .kv_cache import KVCache
from .layers import LayerCall
from .past_reader import PastReader, PastReading
from .text_tokens import Prefilled, text_apart, text_of, write_prefilled


class ChunkAttention:
    """The attention of one chunk over the cache, for all forwards that denoise it.

    Args:
        config: Options of the stream.
        policy: Anchor policy of `config`.
        past: Keys and values committed so far, by conditioning index; not changed. All hold the
            same frames.
        geometry: How the model orders, numbers and rotates tokens.
        first_frame: Content frame of the stream at which the block's content begins.
        silent: Whether the block has no sound, on a model that makes some.
        text: Prefilled keys and values of the text; empty where those of the block count.

    Raises:
        ConfigError: If the content is not to attend to the state on a model with joint text.
    """

    _reads_once = False
    """Whether every layer is read a single time."""

    def __init__(
        self,
        config: StreamConfig,
        policy: AnchorPolicy,
        past: Mapping[int, KVCache],
        geometry: AttentionGeometry,
        *,
        first_frame: int = 0,
        silent: bool = False,
        text: Prefilled | None = None,
    ) -> None:
        self._prefilled, self._text_apart = text or {}, config.text_sees != "all"
        self.conditionings = tuple(past)
        cache = next(iter(past.values()))
        # A cache that was begun again, from given latents or from what a bounded history has left,
        # has less than the stream. Given frames may be more than the stream has had.
        committed = max(first_frame, cache.cached.committed)
        self._cached = replace(cache.cached, committed=committed)
        window = cache.cached.window
        self.layout = self._layout(config, policy).in_pattern(geometry.pattern, window)
        self.state_frames = len(self.layout.state)
        self.frames = len(self.layout.block)
        self.first_frame = first_frame
        self.geometry, self._tracks = geometry, geometry.tracks
        # Number the block so that its content needs no rotation: fewest tokens are touched.
        self.origin = self.layout.content[0] - self.state_frames if geometry.can_shift else 0
        self._strength = config.anchor_strength if self.layout.anchor else 1.0
        self._split_state = bool(self.layout.state) and not config.content_sees_current_state
        if self._split_state and geometry.has_text:
            raise ConfigError(
                "content_sees_current_state",
                problem="content_sees_current_state cannot be off for this model",
                seen="false on a model with text tokens in its self-attention",
                expected="true, since its text tokens attend to the state as well",
                remedy="turn it on on Apply AdaState",
            )
        # Temporal indices of the frames, and places in time of all units.
        self._indices: tuple[float, ...] = geometry.native(self.origin, self.frames)
        self._ticks = () if silent else self._ticks_of_block()
        targets = self._targets()
        self.places = geometry.places(self.origin, self.frames, sum(map(len, self._ticks)))
        if geometry.can_place:
            self._indices, self.places = self.layout.block, targets
        self._block_offsets = {
            name: _offsets(to, self.places[name]) for name, to in targets.items()
        }
        self._sizes = geometry.sizes(self.places)
        readings = self._readings()
        self._past_sizes = geometry.sizes({n: of.picked for n, of in readings.items()})
        self._anchor_sizes = self._sizes_of_anchor(readings["video"].picked)
        keep_ready = not (cache.kv_format.reads_per_layer or self._reads_once)
        self._reader = PastReader(past, readings, geometry, keep_ready=keep_ready)

    def attend(self, call: SelfAttention) -> Tensor:
        """Compute one attention of the block over the cache and itself.

        Args:
            call: The attention as the model calls it.

        Returns:
            The attention output, (B, S, H, D).

        Raises:
            LayoutError: If the cached frames do not fit the block.
        """
        q = self._rotated_queries(call)
        k, v = self._visible(call)
        bias = self._bias(call.call, k)
        if self._text_apart and "text" in call.call.queries:
            return text_apart(call, self._sizes, q, k, v, bias)
        if not self._split_state or "video" not in call.call.keys:
            return call.attention(q, k, v, bias)
        # The state attends to everything, the content and its sound to all but the current state.
        cut = self.state_frames * self.geometry.tokens_per_frame
        first = self._past_sizes["video"]
        of_state = cut if "video" in call.call.queries else 0
        state = [call.attention(q[:, :of_state], k, v, bias)] if of_state else []
        k, v = (torch.cat((x[:, :first], x[:, first + cut :]), dim=1) for x in (k, v))
        content = call.attention(q[:, of_state:], k, v, self._bias(call.call, k))
        return torch.cat((*state, content), dim=1)

    def _rotated_queries(self, call: SelfAttention) -> Tensor:
        """Rotate the block's queries to this chunk's indices; those of the host stay as they are.

        Other nodes may look at them after the attention.
        """
        if not self._moves(call.call.queries):
            return call.q
        out = call.q.clone(memory_format=torch.contiguous_format)
        self._rotate_block_(out, call.call, call.call.queries)
        return out

    def _moves(self, tracks: tuple[TrackName, ...]) -> bool:
        return any(any(self._block_offsets.get(track, ())) for track in tracks)

    def _rotate_block_(self, x: Tensor, call: LayerCall, tracks: tuple[TrackName, ...]) -> None:
        rope = self.geometry.rope_of(call)
        for name, where in parts(tracks, self._sizes, x.shape[1]):
            if name in self._block_offsets:
                track = self._tracks[name]
                track.rotate_(x[:, where], rope, self._block_offsets[name])

    def _visible(self, call: SelfAttention) -> tuple[Tensor, Tensor]:
        """Return the keys and values that the block attends to: the past's, then its own."""
        tracks = call.call.past
        moves, count = self._moves(tracks), sum(self._past_sizes[track] for track in tracks)
        prefilled = bool(self._prefilled) and "text" in call.call.keys
        if not (count or moves or prefilled):
            return call.k, call.v
        k = _with_room(call.k, count)
        v = _with_room(call.v, count) if count or prefilled else call.v
        at = 0
        for track in tracks:
            size = self._past_sizes[track]
            if size:
                self._reader.write(call, track, k[:, at : at + size], v[:, at : at + size])
            at += size
        if moves:
            self._rotate_block_(k[:, count:], call.call, call.call.keys)
        if prefilled:
            where = text_of(call.call, self._sizes, call.k.shape[1])
            write_prefilled(self._prefilled, call, where, k[:, count:], v[:, count:])
        return k, v

    def _ticks_of_block(self) -> tuple[tuple[float, ...], ...]:
        """Return where the sound of every frame of the content is placed, seen from the frame."""
        clock = self.geometry.clock
        if self.geometry.sound is None or clock is None:
            return ()
        frames = range(self.first_frame, self.first_frame + len(self.layout.content))
        return tuple(clock.phases(frame) for frame in frames)

    def _targets(self) -> dict[TrackName, tuple[float, ...]]:
        """Return the place in time of every unit of the block in this chunk."""
        place, layout = self.geometry.place, self.layout
        found: dict[TrackName, tuple[float, ...]] = {"video": tuple(map(place, layout.block))}
        if self.geometry.sound is not None:
            ticks = zip(layout.content, self._ticks, strict=False)
            found["sound"] = tuple(place(index) + phase for index, of in ticks for phase in of)
        return found

    def _readings(self) -> dict[TrackName, PastReading]:
        """Say which units of the cache this chunk reads, and by how much their keys are rotated."""
        cached, layout, place = self._cached, self.layout, self.geometry.place
        first = cached.frames - len(layout.window)
        picked = layout.picked + tuple(range(first, cached.frames))
        native = (*cached.anchor, *cached.window)
        places = tuple(map(place, layout.context))
        found: dict[TrackName, PastReading] = {
            "video": PastReading(picked, _offsets(places, tuple(place(native[i]) for i in picked)))
        }
        if self.geometry.sound is not None:
            begins = (0, *accumulate(cached.units("sound")))
            ticks = [
                (begins[i] + at, place_of + tick.phase - tick.native)
                for i, place_of in zip(picked, places, strict=True)
                for at, tick in enumerate(cached.ticks(i))
            ]
            found["sound"] = PastReading(tuple(t[0] for t in ticks), tuple(t[1] for t in ticks))
        return found

    def _layout(self, config: StreamConfig, policy: AnchorPolicy) -> SlotLayout:
        return policy.layout(config, self._cached)

    def _bias(self, call: LayerCall, keys: Tensor) -> Tensor | None:
        """Return what is added to the logits: the logarithm of the strength, on slot 0."""
        if self._strength == 1.0 or not any(self._anchor_sizes[track] for track in call.past):
            return None
        bias, at = keys.new_zeros(keys.shape[1]), 0
        for track in call.past:  # in the order in which `_visible` lays them out
            anchor = slice(at, at + self._anchor_sizes[track])
            bias[anchor] = math.log(self._strength) if self._strength else -math.inf
            at += self._past_sizes[track]
        return bias

    def _sizes_of_anchor(self, picked: tuple[int, ...]) -> dict[TrackName, int]:
        """Count the tokens of slot 0 that are read of every track, of frames at these positions."""
        sizes: dict[TrackName, int] = {}
        for name, track in self._tracks.items():
            units = self._cached.units(name)
            sizes[name] = track.tokens * sum(units[i] for i in picked[: len(self.layout.anchor)])
        return sizes


def _with_room(block: Tensor, count: int) -> Tensor:
    """Return a copy of (B, S, H, D) with room for so many tokens in front."""
    batch, tokens, *rest = block.shape
    out = block.new_empty((batch, count + tokens, *rest))
    out[:, count:] = block
    return out


def _offsets(target: tuple[float, ...], native: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(wanted - had for wanted, had in zip(target, native, strict=True))
