"""Know in which block of a model a call is made, also where other nodes skip or repeat blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...adastate_core.attention.geometry import AttentionGeometry
from ...adastate_core.attention.layers import BlockName, LayerCounter
from ...adastate_core.errors import LayoutError

_REPLACED = "patches_replace"
_SUFFIX = "_block"
_FIRST = ("double" + _SUFFIX, 0)
_TRACKS = ("run_vx", "run_ax")
"""Options by which nodes have ComfyUI leave out a whole track of an audio-video model."""
_CROSS = {"a2v_cross_attn": "video-to-sound", "v2a_cross_attn": "sound-to-video"}
"""Options by which they leave out single attention calls of every block."""
_SPARED, _OWN = "stg_self_attn_blocks", frozenset(("self", "video", "sound"))
"""The option that names blocks whose tracks do not attend to themselves, and those calls."""
Patch = Callable[[dict[str, Any], dict[str, Any]], Any]


def block_name(options: dict[str, Any]) -> BlockName | None:
    """Return what the host calls the block that runs now, or None if it does not say."""
    if "block_index" not in options:
        return None
    return options.get("block_type"), options["block_index"]


def parts_left_out(options: dict[str, Any]) -> list[str]:
    """Return the options that leave out parts of a model's blocks in a forward."""
    missing = [name for name in (*_TRACKS, *_CROSS) if not options.get(name, True)]
    return [*missing, *((_SPARED,) if options.get(_SPARED) else ())]


def calls_left_out(options: dict[str, Any]) -> Callable[[int], frozenset[str]] | None:
    """Say by name which attention calls of a layer a forward leaves out; None if it has them all.

    Args:
        options: Transformer options of the forward.
    """
    cross = frozenset(call for name, call in _CROSS.items() if not options.get(name, True))
    spared = frozenset(options.get(_SPARED) or ())
    if not cross and not spared:
        return None
    return lambda layer: cross | _OWN if layer in spared else cross


def require_tracks(options: dict[str, Any]) -> None:
    """Refuse a forward of which a node leaves out a whole track.

    Raises:
        LayoutError: If it does.
    """
    missing = [name for name in _TRACKS if not options.get(name, True)]
    if missing:
        raise LayoutError(
            "blocks of a forward",
            problem=f"a guidance node leaves out parts of the model ({', '.join(missing)})",
            seen=f"a forward without {' and '.join(missing)}",
            expected="every part of every block, whose keys and values make the memory",
            remedy="remove that guidance node",
        )


def block_patches(options: dict[str, Any]) -> dict[tuple[str, int], Patch]:
    """Return the functions of other nodes that run in place of a block, by block."""
    return dict((options.get(_REPLACED) or {}).get("dit") or {})


def follow_blocks(
    options: dict[str, Any], layers: LayerCounter, geometry: AttentionGeometry
) -> None:
    """Tell `layers` whenever a block is run by a function in its place.

    Where the host names no blocks, each gets such a function, so that a skipped one is not
    taken for the next.

    Args:
        options: Transformer options of one forward; changed.
        layers: What finds the layer of an attention call.
        geometry: How the model numbers its layers.
    """
    theirs = block_patches(options)
    if not theirs:
        return
    ours = {key: _tracking_patch(key, patch, layers) for key, patch in theirs.items()}
    if geometry.calls.per_block is not None:
        names = [("double" + _SUFFIX, index) for index in range(geometry.layers)]
        ours |= {name: _naming_patch(name, theirs.get(name), layers) for name in names}
    options[_REPLACED] = {**options[_REPLACED], "dit": ours}


def before_first_block(options: dict[str, Any], change: Callable[[Tensor], None]) -> None:
    """Have the video of a forward changed in place just before the first block sees it.

    Args:
        options: Transformer options of the forward; changed.
        change: Changes the tokens of the video, (B, S, C).
    """
    theirs = block_patches(options)
    following = theirs.get(_FIRST, _run_original)

    def run(args: dict[str, Any], extra: dict[str, Any]) -> Any:
        change(args["img"][0])
        return following(args, extra)

    options[_REPLACED] = {**(options.get(_REPLACED) or {}), "dit": {**theirs, _FIRST: run}}


def _tracking_patch(key: tuple[str, int], patch: Patch, layers: LayerCounter) -> Patch:
    block = (key[0].removesuffix(_SUFFIX), key[1])

    def run(args: dict[str, Any], extra: dict[str, Any]) -> Any:
        def original(args: dict[str, Any]) -> Any:
            layers.enter(block)
            return extra["original_block"](args)

        return patch(args, {**extra, "original_block": original})

    return run


def _naming_patch(key: tuple[str, int], patch: Patch | None, layers: LayerCounter) -> Patch:
    followed = _tracking_patch(key, patch or _run_original, layers)

    def run(args: dict[str, Any], extra: dict[str, Any]) -> Any:
        here = {"block_type": key[0].removesuffix(_SUFFIX), "block_index": key[1]}
        args["transformer_options"].update(here)
        return followed(args, extra)

    return run


def _run_original(args: dict[str, Any], extra: dict[str, Any]) -> Any:
    return extra["original_block"](args)
