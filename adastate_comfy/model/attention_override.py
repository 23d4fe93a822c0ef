"""The one attention override of a run: self-attentions of the DiT see the cache too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management
import torch
from torch import Tensor
from torch.nn.functional import pad

from ...adastate_core.attention.block_attention import Attention, BlockAttention, SelfAttention
from ...adastate_core.attention.kernel_choice import KernelChoice
from ...adastate_core.attention.layers import LayerCounter
from ...adastate_core.errors import LayoutError
from ...adastate_core.layout import TrackName
from .attention_kernels import exact_kernels, may_replace
from .blocks import block_name, calls_left_out, require_tracks
from .keys import FIRST_LAYER, KERNELS, ROLES


class AttentionOverride:
    """The attention calls of one forward: those of the block get its past, others are passed on.

    Args:
        view: The block, which attends to the past.
        options: Transformer options of the forward.
    """

    def __init__(self, view: BlockAttention, options: dict[str, Any]) -> None:
        require_tracks(options)
        self._view, self._first_layer = view, options.get(FIRST_LAYER, 0)
        self._previous = options.get("optimized_attention_override")
        # What another node has put in the way is what the artist chose.
        self._kernels: KernelChoice | None = None if self._previous else options.get(KERNELS)
        self._conditionings = conditionings_of(options)
        self._sizes = view.geometry.sizes(view.places)
        self.layers = LayerCounter(view.geometry.calls, calls_left_out(options))

    def __call__(
        self, func: Callable[..., Any], q: Any, k: Any, v: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Compute one attention call of the forward, as the host's override does."""
        following = partial(self._previous, func) if self._previous else func
        options = kwargs.get("transformer_options") or {}
        place = self.layers.place(block_name(options))
        if place is None:
            return following(q, k, v, *args, **kwargs)
        # A forward of a large picture takes minutes where there is no card.
        comfy.model_management.throw_exception_if_processing_interrupted()
        form = _CallForm.of(args, kwargs)
        q, k, v = (form.split(x) for x in (q, k, v))
        self._require_tokens(place.call.queries, q.shape[1])
        self._require_tokens(place.call.keys, k.shape[1])

        kernels = self._kernels
        if kernels is not None and not may_replace(func, args, kwargs):
            kernels = None

        def of_part(queries: slice, keys: slice) -> Attention:
            part = form.cut(kwargs, queries, keys)

            def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
                given = form.extended(part, k.shape[1], bias)

                def host(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
                    out = following(form.merge(q), form.merge(k), form.merge(v), *args, **given)
                    return form.split_output(out)

                if kernels is None:
                    return host(q, k, v)
                scale = kwargs.get("scale", q.shape[-1] ** -0.5)
                return kernels.attend(host, exact_kernels, q, k, v, given.get("mask"), scale)

            return attention

        attention = of_part(slice(None), slice(None))
        layer = place.layer + self._first_layer
        call = SelfAttention(layer, self._conditionings, q, k, v, attention, place.call, of_part)
        return form.merge_output(self._view.attend(call))

    def _require_tokens(self, tracks: tuple[TrackName, ...], seen: int) -> None:
        expected = sum(self._sizes.get(track, 0) for track in tracks)
        if seen < expected or (seen > expected and "text" not in tracks):
            raise LayoutError(
                "tokens of the block",
                problem=(
                    f"a node adds frames of its own to this model ({seen} tokens, this stream "
                    f"has {expected})"
                ),
                seen=f"{seen} tokens of {' and '.join(tracks)}",
                expected=expected,
                remedy="remove nodes that add reference frames to this model",
            )


def conditionings_of(options: dict[str, Any]) -> tuple[int, ...]:
    """Return the conditioning index of each equal slice of a forward's batch.

    A guidance function may compute one of them alone, or in another order; what
    distinguishes them is the id that the host gives each.

    Raises:
        LayoutError: If one is not of this step.
    """
    places = tuple(options["cond_or_uncond"])
    roles = options.get(ROLES)
    if roles is None:
        return places
    found = [roles[each] for each in options["uuids"] if each in roles]
    if len(found) != len(options["uuids"]):
        raise LayoutError(
            "conditioning of a forward",
            problem="a guidance node adds a prompt that is neither positive nor negative",
            seen="one that is neither positive nor negative",
            expected="the two that this step is given, under which the stream was committed",
            remedy="remove that guidance node",
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _CallForm:
    """The form in which an attention call hands its tensors over.

    Args:
        heads: Heads.
        by_head: Whether queries, keys and values come as (B, H, S, D), not as (B, S, H D).
        output_by_head: The same for what the call returns.
    """

    heads: int
    by_head: bool
    output_by_head: bool

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _CallForm:
        heads = kwargs["heads"] if "heads" in kwargs else args[0]
        by_head, output = (kwargs.get(k, False) for k in ("skip_reshape", "skip_output_reshape"))
        return cls(heads, by_head, output)

    def split(self, x: Tensor) -> Tensor:
        """Bring to (B, S, H, D)."""
        return x.transpose(1, 2) if self.by_head else x.unflatten(-1, (self.heads, -1))

    def merge(self, x: Tensor) -> Tensor:
        """Bring (B, S, H, D) back."""
        return x.transpose(1, 2) if self.by_head else x.flatten(2)

    def split_output(self, x: Tensor) -> Tensor:
        """Bring a result to (B, S, H, D)."""
        return x.transpose(1, 2) if self.output_by_head else x.unflatten(-1, (self.heads, -1))

    def merge_output(self, x: Tensor) -> Tensor:
        """Bring a result of (B, S, H, D) back."""
        return x.transpose(1, 2) if self.output_by_head else x.flatten(2)

    @staticmethod
    def cut(kwargs: dict[str, Any], queries: slice, keys: slice) -> dict[str, Any]:
        """Return the call's options with the mask of a part of its queries and keys."""
        mask = kwargs.get("mask")
        if mask is None:
            return kwargs
        mask = mask[..., keys]
        if mask.ndim > 1 and mask.shape[-2] > 1:
            mask = mask[..., queries, :]
        return {**kwargs, "mask": mask}

    @staticmethod
    def extended(kwargs: dict[str, Any], keys: int, bias: Tensor | None) -> dict[str, Any]:
        """Return the call's options with a mask that also covers the keys in front.

        Args:
            kwargs: The call's options.
            keys: Keys that are attended to now.
            bias: What to add to the logits of each of them, or None.
        """
        mask = kwargs.get("mask")
        if mask is None:
            return kwargs if bias is None else {**kwargs, "mask": bias[None, None, None]}
        if bias is not None and mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=bias.dtype, device=mask.device).masked_fill(
                ~mask, -torch.inf
            )
        visible = True if mask.dtype == torch.bool else 0.0
        mask = pad(mask, (keys - mask.shape[-1], 0), value=visible)
        return {**kwargs, "mask": mask if bias is None else mask + bias}
