"""Tell a model where every unit of a block is in time, through the layout that ComfyUI hands it.

MiniMax H3 packs text, sound and video into one sequence and looks up in a layout where each token
is. The host makes one for a whole clip; a chunk gets a copy of its own, with other times.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from comfy.ldm.common_dit import pad_to_patch_size

from ...adastate_core.attention.block_attention import BlockAttention
from ...adastate_core.errors import UnsupportedFamilyError

_PAYLOAD, _LAYOUT = "minimax_payload", "layout"
_KINDS = ["text", "audio", "video"]


def placed(args: tuple[Any, ...], kwargs: dict[str, Any], view: BlockAttention) -> dict[str, Any]:
    """Return the keyword arguments of a forward that place the block as the view says.

    Text ends just before the earliest place of a chunk, whatever its length: then a cache does not
    depend on how many words a later prompt has.

    Args:
        args: The positional arguments of the forward: latents, timestep and text first.
        kwargs: Its other arguments.
        view: The block.

    Raises:
        UnsupportedFamilyError: If the model's layout is not the one that is known.
    """
    (video, sound), context = args[0], args[2] if len(args) > 2 else kwargs["context"]
    payload = dict(kwargs.get(_PAYLOAD) or {})
    rows, columns = pad_to_patch_size(video[:, :, :1], (1, 2, 2)).shape[3:]
    sizes = (context.shape[1], video.shape[2], rows, columns, sound.shape[-1])
    layout = _layout_of(payload.get(_LAYOUT), sizes)
    times = {
        "text": torch.arange(sizes[0], dtype=torch.float64) - sizes[0] + view.geometry.place(0),
        "audio": torch.tensor(view.places.get("sound", ()), dtype=torch.float64),
        "video": torch.tensor(view.places["video"], dtype=torch.float64),
    }
    for begin, end, kind in layout.segments:
        own = times[kind]
        if kind == "video":
            own = own.repeat_interleave((end - begin) // max(len(own), 1))
        elif kind == "audio":
            own = own.repeat(2)
        layout.position_ids[begin:end, 0] = own
    return {_PAYLOAD: {**payload, _LAYOUT: layout}}


def _layout_of(theirs: Any, sizes: tuple[int, ...]) -> Any:
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
