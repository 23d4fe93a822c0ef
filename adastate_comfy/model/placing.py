"""Tell a model where every unit of a block is in time, through the layout that ComfyUI hands it.

MiniMax H3 packs text, sound and video into one sequence and looks up in a layout where each token
is. The host makes one for a whole clip; a chunk gets a copy of its own, with other times.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from comfy.ldm.common_dit import pad_to_patch_size

from ...adastate_core.attention.block_attention import BlockAttention
from ...adastate_core.errors import UnsupportedFamilyError

_PAYLOAD, _LAYOUT = "minimax_payload", "layout"
_KINDS = ["text", "audio", "video"]
_KEPT = 8
"""Layouts of a session that are kept: of a chunk and its commit, under both prompts, and more."""


class PlacedLayouts:
    """The layouts of the blocks of a session, each made for the first forward that has it.

    All steps of a chunk have the same one, and so do all chunks of places that do not count on.
    """

    def __init__(self) -> None:
        self._made: dict[_Block, tuple[Any, Any]] = {}

    def placed(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], view: BlockAttention
    ) -> dict[str, Any]:
        """Return the keyword arguments of a forward that place the block as the view says.

        Text ends just before the earliest place of a chunk, whatever its length: then a cache does
        not depend on how many words a later prompt has.

        Args:
            args: The positional arguments of the forward: latents, timestep and text first.
            kwargs: Its other arguments.
            view: The block.

        Raises:
            UnsupportedFamilyError: If the model's layout is not the one that is known.
        """
        (video, sound), context = args[0], args[2] if len(args) > 2 else kwargs["context"]
        payload = kwargs.get(_PAYLOAD) or {}
        rows, columns = pad_to_patch_size(video[:, :, :1], (1, 2, 2)).shape[3:]
        sizes = (context.shape[1], video.shape[2], rows, columns, sound.shape[-1])
        theirs, ends = payload.get(_LAYOUT), view.geometry.place(0)
        block = _Block(sizes, id(theirs), ends, view.places["video"], view.places.get("sound", ()))
        if block not in self._made:
            while len(self._made) >= _KEPT:
                del self._made[next(iter(self._made))]
            # With the one of the host, so that no other object gets its address.
            self._made[block] = _layout_of(theirs, block), theirs
        return {_PAYLOAD: {**payload, _LAYOUT: self._made[block][0]}}


class _Block(NamedTuple):
    """What a layout depends on: sizes, the host's own, where text ends, and places in time."""

    sizes: tuple[int, ...]
    theirs: int
    text_ends: float
    video: tuple[float, ...]
    sound: tuple[float, ...]


def _layout_of(theirs: Any, block: _Block) -> Any:
    """Return a layout of our own for a block."""
    layout, (words, *_) = _sized(theirs, block.sizes), block.sizes
    times = {
        "text": torch.arange(words, dtype=torch.float64) - words + block.text_ends,
        "audio": torch.tensor(block.sound, dtype=torch.float64),
        "video": torch.tensor(block.video, dtype=torch.float64),
    }
    for begin, end, kind in layout.segments:
        own = times[kind]
        if kind == "video":
            own = own.repeat_interleave((end - begin) // max(len(own), 1))
        elif kind == "audio":
            own = own.repeat(2)
        layout.position_ids[begin:end, 0] = own
    return layout


def _sized(theirs: Any, sizes: tuple[int, ...]) -> Any:
    """Return a layout of our own for text, frames, rows, columns and sound of these sizes."""
    if theirs is None or theirs.signature != sizes:
        from comfy.ldm.minimax.model import PackedLayout

        layout = PackedLayout(*sizes)
    else:
        layout = copy.copy(theirs)
        layout.position_ids = theirs.position_ids.clone()
    if [kind for _, _, kind in layout.segments] != _KINDS or layout.signature != sizes:
        raise UnsupportedFamilyError(
            "layout of the model",
            problem="ComfyUI packs this model otherwise than AdaState knows it",
            seen=f"{[kind for _, _, kind in layout.segments]}",
            expected=f"{_KINDS}",
            remedy="update AdaState, or remove nodes that add keyframes or references",
        )
    return layout
