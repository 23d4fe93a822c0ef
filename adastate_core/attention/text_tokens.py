"""Text tokens in one sequence with the video, where they are not to see it.

Text that attends to text alone is the same in every chunk but for the noise level of the step.
Models that were trained so may also have it prefilled: its keys and values are computed once, and
take the place of those that the text of the block would have. What text attends to is then of no
matter to the video.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import LayoutError
from ..layout import TrackName
from .block_attention import SelfAttention
from .geometry import AttentionGeometry, parts
from .kv_cache import KVCache, KVEntry, require_layers
from .kv_format import KVFormat
from .layers import LayerCall

Prefilled = Mapping[int, KVCache]
"""Keys and values of the text, by conditioning index."""


def text_apart(
    call: SelfAttention,
    sizes: Mapping[TrackName, int],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """Compute an attention in which text attends to itself, and all else to everything.

    Args:
        call: The attention as the model calls it.
        sizes: Tokens of the tracks that have latents.
        q: Queries at their places in this chunk.
        k: Keys that the rest attends to: those of the past, then the block's.
        v: Values, likewise.
        bias: What is added to the logits of each of these keys, or None.

    Returns:
        The attention output, (B, S, H, D).
    """
    text, own = text_of(call.call, sizes, q.shape[1]), text_of(call.call, sizes, call.k.shape[1])
    first = text.start == 0
    rest = slice(text.stop, q.shape[1]) if first else slice(0, text.start)
    apart = call.part(text, own)(q[:, text], call.k[:, own], call.v[:, own], None)
    others = call.part(rest, slice(0, call.k.shape[1]))(q[:, rest], k, v, bias)
    return torch.cat((apart, others) if first else (others, apart), dim=1)


def text_of(call: LayerCall, sizes: Mapping[TrackName, int], tokens: int) -> slice:
    """Return where the text is among the queries of a call, or among its keys: they are alike."""
    return next(where for name, where in parts(call.keys, sizes, tokens) if name == "text")


def write_prefilled(
    prefilled: Prefilled, call: SelfAttention, where: slice, k: Tensor, v: Tensor
) -> None:
    """Put the prefilled keys and values in the place of the text of a block.

    Args:
        prefilled: Those of the text under each conditioning.
        call: The attention as the model calls it.
        where: The text among the keys of the block.
        k: The keys of the block, which are changed.
        v: The values of the block, likewise.

    Raises:
        LayoutError: If the text of the block is of another length.
    """
    size, entry = k.shape[0] // len(call.conditionings), _entry(call)
    for index, conditioning in enumerate(call.conditionings):
        own = slice(index * size, (index + 1) * size)
        for kept, x in zip(prefilled[conditioning].get(entry), (k, v), strict=True):
            to = x[own, where]
            if kept.shape != to.shape:
                raise LayoutError(
                    "text of a forward",
                    problem="a node changes the prompt on its way to the model",
                    seen=f"{to.shape[1]} tokens of text",
                    expected=f"the {kept.shape[1]} of the prompt",
                    remedy="give positive and negative prompts of one length, or remove that node",
                )
            to.copy_(kept, non_blocking=True)  # from a card or from page-locked memory


class TextPrefill:
    """A view that keeps the keys and values of the text of a block, which attends to itself.

    Args:
        geometry: How the model orders, numbers and rotates tokens.
        conditionings: Indices of the conditionings whose text it is.
        kv_format: Where they are kept.
    """

    origin = first_frame = 0
    frames = state_frames = 1  # a block has to have one; no image is joined to a state

    def __init__(
        self, geometry: AttentionGeometry, conditionings: tuple[int, ...], kv_format: KVFormat
    ) -> None:
        self.geometry, self.conditionings = geometry, conditionings
        self.places = geometry.places(0, self.frames, 0)
        self._sizes = geometry.sizes(self.places)
        self._made = {index: KVCache.empty(kv_format) for index in conditionings}

    def attend(self, call: SelfAttention) -> Tensor:
        """Compute one attention, and store keys and values of the text.

        Raises:
            LayoutError: If a layer is computed twice.
        """
        if "text" not in call.call.keys:
            return call.attention(call.q, call.k, call.v, None)
        where, count = text_of(call.call, self._sizes, call.k.shape[1]), len(call.conditionings)
        k, v = (x[:, where].clone().chunk(count) for x in (call.k, call.v))
        for conditioning, keys, values in zip(call.conditionings, k, v, strict=True):
            tokens = max(keys.shape[1], 1)
            self._made[conditioning].put(_entry(call), keys, values, tokens)
        return text_apart(call, self._sizes, call.q, call.k, call.v, None)

    def prefilled(self) -> dict[int, KVCache]:
        """Return the keys and values, by conditioning index.

        Raises:
            LayoutError: If the forwards did not compute every layer.
        """
        of_layer = sum("text" in call.keys for call in self.geometry.calls.tracked)
        for cache in self._made.values():
            require_layers(cache, self.geometry.layers, of_layer)
        return self._made


def _entry(call: SelfAttention) -> KVEntry:
    return KVEntry(call.layer, call.call.name, "text")
