"""What the self-attention of a chunk becomes: extend keys and values, turn, store on commit.

A `BlockPass` is one chunk's view of the cache. The host calls `attend` for every self-attention
of the model; the model itself is not changed, and a mask is used only to weaken or strengthen
slot 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ..anchors import AnchorPolicy
from ..config import StreamConfig
from ..errors import ConfigError, LayoutError
from ..layout import FrameMix, FrameRef, Occupancy, SlotLayout
from .joint_text import TextPlace, cut_text, join_text
from .kv_cache import KVSet, select_frames
from .layers import AttentionCalls
from .rope import SpatialRotation, TemporalRotation

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Attention over (B, S, H, D) queries, keys and values, returning (B, S, H, D).

The last argument is a bias on the logits of each key, (keys,), or None: then no mask is needed.
"""


@dataclass(frozen=True, slots=True)
class BlockShape:
    """Say how a model numbers and rotates the frames of a block.

    Args:
        layers: Layers with self-attention.
        tokens_per_frame: Tokens of one latent frame, in row-major order, frames outermost.
        columns: Tokens of a row.
        rotation: The temporal rotary channels.
        calls: Which attention calls of a forward are the self-attentions of its layers.
        text: Where text tokens stand in a self-attention, `apart` if it has none.
        can_shift: Whether the host can make the model number its frames from another origin.
        first_index: Where the model puts the first frame of a block; the others stand at 1, 2,
            and so on. Not 0 for models that give a video's first, shorter frame its own place.
        space: The rotary channels that turn with the place in the picture, None if not known.
    """

    layers: int
    tokens_per_frame: int
    columns: int
    rotation: TemporalRotation
    calls: AttentionCalls
    text: TextPlace = "apart"
    can_shift: bool = False
    first_index: float = 0.0
    space: SpatialRotation | None = None

    def native(self, origin: int, frames: int) -> tuple[float, ...]:
        """Return the temporal indices that the model gives the frames of a block."""
        indices: tuple[float, ...] = tuple(range(origin, origin + frames))
        return (self.first_index, *indices[1:]) if self.first_index else indices


class BlockView(Protocol):
    """What the host's attention hook needs to know of a block, and who attends for it."""

    origin: int
    """Temporal index at which the model numbers the first frame of the block."""
    shape: BlockShape
    frames: int
    state_frames: int
    """Frames in front of the content."""
    first_frame: int
    """Content frame of the stream at which the content begins."""
    conditionings: tuple[int, ...]
    """Indices of the conditionings whose past it has; a commit is made under each."""

    def attend(
        self,
        layer: int,
        conditionings: tuple[int, ...],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attention: Attention,
    ) -> Tensor:
        """Compute one self-attention, as `BlockPass.attend` says."""
        ...


class BlockPass:
    """One chunk's view of the cache, which serves the attention calls of all forwards over it.

    Args:
        config: Options of the stream.
        policy: Anchor policy of `config`.
        past: Keys and values committed so far, by conditioning index; not changed. All hold the
            same frames.
        shape: How the model numbers and rotates frames.
        first_frame: Content frame of the stream at which the block's content begins.
        commit: Whether this forward stores the block's keys and values in new sets.
        hold: Whether a commit leaves slot 0 alone.
    """

    def __init__(
        self,
        config: StreamConfig,
        policy: AnchorPolicy,
        past: Mapping[int, KVSet],
        shape: BlockShape,
        *,
        first_frame: int = 0,
        commit: bool = False,
        hold: bool = False,
    ) -> None:
        self._past = past
        self.conditionings = tuple(past)
        kv = next(iter(past.values()))
        # A cache that was begun again, from given latents or from what a bounded history has left,
        # has seen less than the stream. Given frames may be more than the stream has had.
        held = replace(kv.occupancy, seen=max(first_frame, kv.occupancy.seen))
        self._held, self._packing = held, kv.packing
        self.layout = policy.layout(config, held)
        if commit and not config.reencode_sees_prev_state:
            self.layout = SlotLayout((), self.layout.window, self.layout.state, self.layout.content)
        self.state_frames = len(self.layout.state)
        self.frames = len(self.layout.block)
        self.first_frame = first_frame
        self.commit = commit
        self.shape = shape
        # Number the block so that its content needs no turning: fewest tokens are touched.
        self.origin = self.layout.content[0] - len(self.layout.state) if shape.can_shift else 0
        self._strength = config.anchor_strength if self.layout.anchor else 1.0
        self._split_state = bool(self.layout.state) and not config.content_sees_current_state
        if self._split_state and shape.text != "apart":
            raise ConfigError(
                "content_sees_current_state",
                seen="false on a model that mixes text into its self-attention",
                expected="true, since its text tokens see the state too",
                remedy="leave content_sees_current_state at true",
            )
        native = shape.native(self.origin, self.frames)
        self._block_turn = _difference(self.layout.block, native)
        self._context: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        if commit:
            self._plan = policy.commit(config, held, hold=hold)
            made = Occupancy(
                anchor=tuple(
                    self._native_of(kept.terms[0][0] if isinstance(kept, FrameMix) else kept)
                    for kept in self._plan.anchor
                ),
                window=tuple(self._native_of(ref) for ref in self._plan.window),
                seen=held.seen + len(self.layout.content),
            )
            self._committed = {
                conditioning: KVSet(made, shape.tokens_per_frame, kv.packing)
                for conditioning, kv in past.items()
            }

    def attend(
        self,
        layer: int,
        conditionings: tuple[int, ...],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attention: Attention,
    ) -> Tensor:
        """Compute one self-attention of the block over the cache and itself.

        Args:
            layer: Index of the layer.
            conditionings: Conditioning index of each equal slice of the batch.
            q: Queries of the block as the model wrote them, (B, S, H, D), text tokens included
                where the model has them here.
            k: Keys, same shape.
            v: Values, same shape.
            attention: The attention to use.

        Returns:
            The attention output, (B, S, H, D).

        Raises:
            LayoutError: If the cached frames do not fit the block.
        """
        place, tokens = self.shape.text, self.frames * self.shape.tokens_per_frame
        q, text_q = cut_text(q, place, tokens)
        k, text_k = cut_text(k, place, tokens)
        if self.commit:
            self._store(layer, conditionings, k, cut_text(v, place, tokens)[0])
        q = join_text(self.shape.rotation.turn(q, self._block_turn), text_q, place)
        k = join_text(self.shape.rotation.turn(k, self._block_turn), text_k, place)
        past = [self._read(cond, layer, k) for cond in conditionings] if self.layout.context else []
        if self._split_state:
            return self._attend_split(past, q, k, v, attention)
        k, v = _extend([p[0] for p in past], k), _extend([p[1] for p in past], v)
        return attention(q, k, v, self._bias(k))

    def committed(self) -> dict[int, KVSet]:
        """Return the sets made by a commit pass, by conditioning index.

        Raises:
            LayoutError: If the forwards did not compute every layer.
        """
        for kv in self._committed.values():
            if len(kv.keys_of) != self.shape.layers:
                raise LayoutError(
                    "commit pass",
                    seen=f"keys of {len(kv.keys_of)} layers",
                    expected=f"those of all {self.shape.layers} layers",
                    remedy="remove nodes that skip forwards or layers of this model",
                )
        return self._committed

    def _attend_split(
        self,
        past: list[tuple[Tensor, Tensor]],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attention: Attention,
    ) -> Tensor:
        """Let the state see everything and the content everything but the current state."""
        cut = len(self.layout.state) * self.shape.tokens_per_frame
        keys, values = [p[0] for p in past], [p[1] for p in past]
        seen = _extend(keys, k)
        state = attention(q[:, :cut], seen, _extend(values, v), self._bias(seen))
        seen = _extend(keys, k[:, cut:])
        content = attention(q[:, cut:], seen, _extend(values, v[:, cut:]), self._bias(seen))
        return torch.cat((state, content), dim=1)

    def _bias(self, keys: Tensor) -> Tensor | None:
        """Return what is added to the logits: the logarithm of the strength, on slot 0."""
        if self._strength == 1.0:
            return None
        bias = keys.new_zeros(keys.shape[1])
        anchor = len(self.layout.anchor) * self.shape.tokens_per_frame
        bias[:anchor] = math.log(self._strength) if self._strength else -math.inf
        return bias

    def _read(self, conditioning: int, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Fetch the cached frames of a layer, turned to this chunk's indices.

        Once for a chunk, unless they are kept elsewhere or packed to save memory.
        """
        entry = (conditioning, layer)
        if entry in self._context:
            return self._context[entry]
        keys, values = self._past_of(conditioning).get(layer)
        if keys.shape[2:] != like.shape[2:]:
            raise LayoutError(
                "attention cache",
                seen=f"heads x channels {tuple(keys.shape[2:])}",
                expected=f"{tuple(like.shape[2:])}",
                remedy="start a new stream with this model",
            )
        keys, values = self._readable(keys).to(like), self._readable(values).to(like)
        held = self._held
        window = held.window[len(held.window) - len(self.layout.window) :]
        native = tuple(held.anchor[i] for i in self.layout.picked) + window
        keys = self.shape.rotation.turn(keys, _difference(self.layout.context, native))
        if not (self.commit or self._packing.read_anew):
            self._context[entry] = (keys, values)
        return keys, values

    def _readable(self, x: Tensor) -> Tensor:
        """Pick the cached frames that the layout places, in its order."""
        held = self._held
        window = held.frames - len(self.layout.window)
        wanted = self.layout.picked + tuple(range(window, held.frames))
        if wanted == tuple(range(held.frames)):
            return x
        frames = x.split(self.shape.tokens_per_frame, dim=1)
        return torch.cat([frames[i] for i in wanted], dim=1)

    def _store(self, layer: int, conditionings: tuple[int, ...], k: Tensor, v: Tensor) -> None:
        count = len(conditionings)
        for cond, keys, values in zip(conditionings, k.chunk(count), v.chunk(count), strict=True):
            kv = self._past_of(cond)
            past = kv.get(layer) if self._held.frames else (None, None)
            self._committed[cond].put(
                layer,
                self._select(past[0], keys, turns=True),
                self._select(past[1], values, turns=False),
            )

    def _past_of(self, conditioning: int) -> KVSet:
        if conditioning not in self._past:
            raise LayoutError(
                "attention cache",
                seen=f"nothing remembered for conditioning {conditioning}",
                expected="a conditioning that the stream was committed under",
                remedy="remove nodes that compute other conditionings than this step is given",
            )
        return self._past[conditioning]

    def _select(self, held: Tensor | None, block: Tensor, *, turns: bool) -> Tensor:
        """Gather the frames that the commit keeps, from the cache and the block."""
        tokens = self.shape.tokens_per_frame
        held = held.to(block.device) if held is not None else None
        first = {"anchor": 0, "window": len(self._held.anchor)}
        first |= {"state": 0, "content": len(self.layout.state)}

        def locate(ref: FrameRef, at: FrameRef) -> Tensor:
            source = held if ref.source in ("anchor", "window") else block
            assert source is not None  # a plan refers to cached frames only if there are any
            start = (first[ref.source] + ref.position) * tokens
            frame = source[:, start : start + tokens]
            delta = self._native_of(at) - self._native_of(ref) if turns else 0
            return self.shape.rotation.turn(frame, (delta,))

        def pool(x: Tensor) -> Tensor:
            space, columns = self.shape.space, self.shape.columns
            if space is None:
                raise LayoutError(
                    "anchor", seen="an average over the picture on a model without known places",
                    expected="another anchor", remedy="choose another one on Apply AdaState",
                )  # fmt: skip
            raw = space.turn(x, columns, -1) if turns else x
            raw = raw.mean(dim=1, keepdim=True).expand_as(x)
            return space.turn(raw, columns, 1) if turns else raw

        return select_frames(self._plan, locate, pool, block[:, :0])

    def _native_of(self, ref: FrameRef) -> float:
        """Return the temporal index that the keys of a frame were written with."""
        held, states = self._held, len(self.layout.state)
        native = self.shape.native(self.origin, self.frames)
        rows = {"anchor": held.anchor, "window": held.window}
        rows |= {"state": native[:states], "content": native[states:]}
        return rows[ref.source][ref.position]


def _extend(past: list[Tensor], block: Tensor) -> Tensor:
    """Put the cached frames of every batch slice in front of the block's."""
    if not past:
        return block
    prefix = past[0] if len(past) == 1 else torch.cat(past, dim=0)
    return torch.cat((prefix, block), dim=1)


def _difference(target: tuple[float, ...], native: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(wanted - had for wanted, had in zip(target, native, strict=True))
