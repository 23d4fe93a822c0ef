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

import torch
from torch import Tensor

from ..anchors import AnchorPolicy
from ..config import StreamConfig
from ..errors import ConfigError, LayoutError
from ..layout import CachedFrames, FrameMix, FrameRef, SlotLayout, TrackName
from .block_attention import SelfAttention
from .geometry import AttentionGeometry, parts
from .kv_cache import KVCache, KVEntry, select_frames
from .layers import LayerCall
from .past_reader import PastReader, PastReading
from .rope import TemporalRope


class ChunkAttention:
    """The attention of one chunk over the cache, for all forwards that denoise it.

    Args:
        config: Options of the stream.
        policy: Anchor policy of `config`.
        past: Keys and values committed so far, by conditioning index; not changed. All hold the
            same frames.
        geometry: How the model orders, numbers and rotates tokens.
        first_frame: Content frame of the stream at which the block's content begins.

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
    ) -> None:
        self.conditionings = tuple(past)
        cache = next(iter(past.values()))
        # A cache that was begun again, from given latents or from what a bounded history has left,
        # has less than the stream. Given frames may be more than the stream has had.
        committed = max(first_frame, cache.cached.committed)
        self._cached = replace(cache.cached, committed=committed)
        self.layout = self._layout(config, policy)
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
        self.native = geometry.natives(self.origin, self.frames)
        self._block_offsets: dict[TrackName, tuple[float, ...]] = {
            "video": _offsets(self.layout.block, self.native["video"])
        }
        self._sizes = geometry.sizes(self.native)
        readings = self._readings()
        self._past_sizes = geometry.sizes({n: of.picked for n, of in readings.items()})
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
        if not self._split_state:
            return call.attention(q, k, v, bias)
        # The state attends to everything, the content to all but the current state.
        cut = self.state_frames * self.geometry.tokens_per_frame
        first = self._past_sizes["video"]
        state = call.attention(q[:, :cut], k, v, bias)
        k, v = (torch.cat((x[:, :first], x[:, first + cut :]), dim=1) for x in (k, v))
        content = call.attention(q[:, cut:], k, v, self._bias(call.call, k))
        return torch.cat((state, content), dim=1)

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
        if not (count or moves):
            return call.k, call.v
        k = _with_room(call.k, count)
        v = _with_room(call.v, count) if count else call.v
        at = 0
        for track in tracks:
            size = self._past_sizes[track]
            if size:
                self._reader.write(call, track, k[:, at : at + size], v[:, at : at + size])
            at += size
        if moves:
            self._rotate_block_(k[:, count:], call.call, call.call.keys)
        return k, v

    def _readings(self) -> dict[TrackName, PastReading]:
        """Say which units of the cache this chunk reads, and by how much their keys are rotated."""
        cached, layout = self._cached, self.layout
        first = cached.frames - len(layout.window)
        picked = layout.picked + tuple(range(first, cached.frames))
        native = (*cached.anchor, *cached.window)
        offsets = _offsets(layout.context, tuple(native[i] for i in picked))
        return {"video": PastReading(picked, offsets)}

    def _layout(self, config: StreamConfig, policy: AnchorPolicy) -> SlotLayout:
        return policy.layout(config, self._cached)

    def _bias(self, call: LayerCall, keys: Tensor) -> Tensor | None:
        """Return what is added to the logits: the logarithm of the strength, on slot 0."""
        if self._strength == 1.0 or "video" not in call.keys:
            return None
        bias = keys.new_zeros(keys.shape[1])
        anchor = len(self.layout.anchor) * self.geometry.tokens_per_frame
        bias[:anchor] = math.log(self._strength) if self._strength else -math.inf
        return bias


class CommitAttention(ChunkAttention):
    """The attention of a commit pass: a clean block whose keys and values enter the cache.

    Args:
        config: Options of the stream.
        policy: Anchor policy of `config`.
        past: Keys and values committed so far, by conditioning index; not changed.
        geometry: How the model orders, numbers and rotates tokens.
        first_frame: Content frame of the stream at which the block's content begins.
        hold: Whether slot 0 stays as it is.
    """

    _reads_once = True

    def __init__(
        self,
        config: StreamConfig,
        policy: AnchorPolicy,
        past: Mapping[int, KVCache],
        geometry: AttentionGeometry,
        *,
        first_frame: int = 0,
        hold: bool = False,
    ) -> None:
        super().__init__(config, policy, past, geometry, first_frame=first_frame)
        self._anchor = config.anchor
        self._plan = policy.commit(config, self._cached, hold=hold)
        anchor = tuple(
            self._native_of(kept.terms[0][0] if isinstance(kept, FrameMix) else kept)
            for kept in self._plan.anchor
        )
        window = tuple(self._native_of(kept) for kept in self._plan.window)
        made = CachedFrames(
            anchor, window, committed=self._cached.committed + len(self.layout.content)
        )
        self._made = {
            conditioning: KVCache(made, cache.kv_format) for conditioning, cache in past.items()
        }

    def attend(self, call: SelfAttention) -> Tensor:
        """Compute one attention, and store its keys and values.

        Raises:
            LayoutError: If a layer is computed twice, or the cached frames do not fit the block.
        """
        self._store(call)
        return super().attend(call)

    def committed(self) -> dict[int, KVCache]:
        """Return the caches that the forwards made, by conditioning index.

        Raises:
            LayoutError: If the forwards did not compute every layer.
        """
        of_layer = sum(len(call.past) for call in self.geometry.calls.tracked)
        for cache in self._made.values():
            if len(cache.keys_of) != self.geometry.layers * of_layer:
                ran = len(cache.keys_of) // of_layer
                raise LayoutError(
                    "commit pass",
                    problem=f"only {ran} of {self.geometry.layers} layers of the model ran",
                    seen=f"keys of {ran} layers",
                    expected=f"those of all {self.geometry.layers} layers",
                    remedy="remove nodes that skip steps or layers of this model",
                )
        return self._made

    def _layout(self, config: StreamConfig, policy: AnchorPolicy) -> SlotLayout:
        layout = super()._layout(config, policy)
        if config.reencode_sees_prev_state:
            return layout
        return SlotLayout((), layout.window, layout.state, layout.content)

    def _store(self, call: SelfAttention) -> None:
        names, count = call.call.keys, len(call.conditionings)
        for name, where in parts(names, self._sizes, call.k.shape[1]):
            if name in call.call.past:
                track, entry = self._tracks[name], KVEntry(call.layer, call.call.name, name)
                k, v = (track.by_unit(x[:, where]).chunk(count) for x in (call.k, call.v))
                for each in zip(call.conditionings, k, v, strict=True):
                    self._store_entry(entry, self.geometry.rope_of(call.call), *each)

    def _store_entry(
        self, entry: KVEntry, rope: TemporalRope, conditioning: int, keys: Tensor, values: Tensor
    ) -> None:
        past: tuple[Tensor | None, Tensor | None] = (None, None)
        if any(self._cached.units(entry.track)):
            past = self._reader.whole(conditioning, entry, keys)
        self._made[conditioning].put(
            entry,
            self._select(past[0], keys, rope),
            self._select(past[1], values, None),
            self._tracks[entry.track].tokens,
        )

    def _select(self, past: Tensor | None, block: Tensor, rope: TemporalRope | None) -> Tensor:
        """Gather the frames that the commit keeps, from the cache and the block.

        Args:
            past: Cached keys or values, None if there are none.
            block: Those of the block.
            rope: What keys are rotated by; None for values.
        """
        tokens = self.geometry.tokens_per_frame
        first = {"anchor": 0, "window": len(self._cached.anchor)}
        first |= {"state": 0, "content": self.state_frames}

        def locate(ref: FrameRef, at: FrameRef) -> Tensor:
            source = past if ref.source in ("anchor", "window") else block
            assert source is not None  # a plan refers to cached frames only if there are any
            start = (first[ref.source] + ref.position) * tokens
            frame = source[:, start : start + tokens]
            return (
                rope.rotate(frame, (self._native_of(at) - self._native_of(ref),)) if rope else frame
            )

        def pool(x: Tensor) -> Tensor:
            space, columns = self.geometry.spatial_rope, self.geometry.columns
            if space is None:
                raise LayoutError(
                    "anchor",
                    problem=f"the anchor {self._anchor} does not work with this model",
                    seen="an average over the image, on a model whose spatial RoPE is not known",
                    expected="another anchor than dual_ema",
                    remedy="choose another anchor on Apply AdaState",
                )
            raw = space.rotate(x, columns, inverse=True) if rope else x
            raw = raw.mean(dim=1, keepdim=True).expand_as(x)
            return space.rotate(raw, columns) if rope else raw

        return select_frames(self._plan, locate, pool, block[:, :0])

    def _native_of(self, ref: FrameRef) -> float:
        """Return the temporal index at which the keys of a frame were projected."""
        native = self.native["video"]
        rows = {"anchor": self._cached.anchor, "window": self._cached.window}
        rows |= {"state": native[: self.state_frames], "content": native[self.state_frames :]}
        return rows[ref.source][ref.position]


def _with_room(block: Tensor, count: int) -> Tensor:
    """Return a copy of (B, S, H, D) with room for so many tokens in front."""
    batch, tokens, *rest = block.shape
    out = block.new_empty((batch, count + tokens, *rest))
    out[:, count:] = block
    return out


def _offsets(target: tuple[float, ...], native: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(wanted - had for wanted, had in zip(target, native, strict=True))
