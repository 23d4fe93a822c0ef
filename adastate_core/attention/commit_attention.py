"""A commit pass: the forward of a clean block whose keys and values enter the cache.

Which frames stay is the anchor policy's to say; other tracks stay with the frames of the window
that they belong to, and with those of slot 0 if they are asked to.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..anchors import AnchorPolicy
from ..config import StreamConfig
from ..errors import LayoutError
from ..layout import CachedFrames, FrameMix, FrameRef, SlotLayout, Tick, TrackName
from .block_attention import SelfAttention
from .chunk_attention import ChunkAttention
from .geometry import AttentionGeometry, parts
from .kv_cache import (
    KVCache,
    KVEntry,
    UnitRange,
    require_layers,
    select_frames,
    select_units,
)
from .layers import LayerCall


class CommitAttention(ChunkAttention):
    """The attention of a commit pass: a clean block whose keys and values enter the cache.

    Args:
        config: Options of the stream.
        policy: Anchor policy of `config`.
        past: Keys and values committed so far, by conditioning index; not changed.
        geometry: How the model orders, numbers and rotates tokens.
        first_frame: Content frame of the stream at which the block's content begins.
        silent: Whether the block has no sound, on a model that makes some.
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
        silent: bool = False,
        hold: bool = False,
    ) -> None:
        super().__init__(config, policy, past, geometry, first_frame=first_frame, silent=silent)
        self._anchor, self._anchor_sound = config.anchor, config.anchor_sound
        self._plan = policy.commit(config, self._cached, hold=hold)
        anchor = tuple(
            self._native_of(kept.terms[0][0] if isinstance(kept, FrameMix) else kept)
            for kept in self._plan.anchor
        )
        window = tuple(self._native_of(kept) for kept in self._plan.window)
        kept = self._sound_of_plan()
        self._kept_sound = [where for _, where in kept]
        sound = tuple(ticks for ticks, _ in kept)
        committed = self._cached.committed + len(self.layout.content)
        made = CachedFrames(anchor, window, committed, sound if any(sound) else ())
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
            require_layers(cache, self.geometry.layers, of_layer)
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
                    self._store_entry(entry, call.call, *each)

    def _store_entry(
        self, entry: KVEntry, call: LayerCall, conditioning: int, keys: Tensor, values: Tensor
    ) -> None:
        past: tuple[Tensor | None, Tensor | None] = (None, None)
        if any(self._cached.units(entry.track)):
            past = self._reader.whole(conditioning, entry, keys)
        self._made[conditioning].put(
            entry,
            self._select(past[0], keys, entry.track, call),
            self._select(past[1], values, entry.track, None),
            self._tracks[entry.track].tokens,
        )

    def _select(
        self, past: Tensor | None, block: Tensor, track: TrackName, call: LayerCall | None
    ) -> Tensor:
        """Gather the units that the commit keeps, from the cache and the block.

        Args:
            past: Cached keys or values, None if there are none.
            block: Those of the block.
            track: The track whose they are.
            call: The call that rotates these keys; None for values, which are not rotated.
        """
        if track == "sound":
            return select_units(self._kept_sound, past, block, self._tracks[track].tokens)
        tokens, place = self.geometry.tokens_per_frame, self.geometry.place
        rope = None if call is None else self.geometry.rope_of(call)
        first = {"anchor": 0, "window": len(self._cached.anchor)}
        first |= {"state": 0, "content": self.state_frames}

        def locate(ref: FrameRef, at: FrameRef) -> Tensor:
            source = past if ref.source in ("anchor", "window") else block
            assert source is not None  # a plan refers to cached frames only if there are any
            start = (first[ref.source] + ref.position) * tokens
            frame = source[:, start : start + tokens]
            if rope is None:
                return frame
            return rope.rotate(frame, (place(self._native_of(at)) - place(self._native_of(ref)),))

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
            placed = call is not None and call.in_space
            raw = space.rotate(x, columns, inverse=True) if placed else x
            raw = raw.mean(dim=1, keepdim=True).expand_as(x)
            return space.rotate(raw, columns) if placed else raw

        return select_frames(self._plan, locate, pool, block[:, :0])

    def _sound_of_plan(self) -> list[tuple[tuple[Tick, ...], UnitRange]]:
        """Return the sound that each frame of the plan keeps, and where it lies.

        Slot 0 keeps none unless its first frames are asked to: a state has none, and what an anchor
        sounds like is long past.
        """
        if self.geometry.sound is None:
            return []
        none: tuple[tuple[Tick, ...], UnitRange] = (), UnitRange(in_block=True, first=0, units=0)
        anchor = [
            self._sound_of(kept) if self._anchor_sound and isinstance(kept, FrameRef) else none
            for kept in self._plan.anchor
        ]
        return [*anchor, *(self._sound_of(ref) for ref in self._plan.window)]

    def _sound_of(self, ref: FrameRef) -> tuple[tuple[Tick, ...], UnitRange]:
        """Return the sound of a frame that is kept, and where it lies."""
        if ref.source in ("anchor", "window"):
            at = ref.position + (len(self._cached.anchor) if ref.source == "window" else 0)
            ticks = self._cached.ticks(at)
            first = sum(self._cached.units("sound")[:at])
            return ticks, UnitRange(in_block=False, first=first, units=len(ticks))
        phases = self._ticks[ref.position] if self._ticks else ()
        first = sum(map(len, self._ticks[: ref.position]))
        natives = self.places["sound"][first : first + len(phases)]
        return tuple(map(Tick, natives, phases)), UnitRange(True, first, len(phases))

    def _native_of(self, ref: FrameRef) -> float:
        """Return the temporal index at which the keys of a frame were projected."""
        cut = self.state_frames
        rows = {"anchor": self._cached.anchor, "window": self._cached.window}
        rows |= {"state": self._indices[:cut], "content": self._indices[cut:]}
        return rows[ref.source][ref.position]
