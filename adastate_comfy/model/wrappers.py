"""The two wrappers around a forward that Apply AdaState puts on a MODEL.

They act only while a run of ours has put its view of the block into the transformer options; any
other sampler sees the model as if we were not there. `extend_attention` is around the forward of
the DiT: it numbers the frames and puts the attention override in place. `prepare_forward` is around
the host's call of it and picks what belongs to this block's frames.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ...adastate_core.attention.block_attention import BlockAttention
from ..sockets.conditioning import pick_frames
from .attention_override import AttentionOverride
from .blocks import follow_blocks
from .keys import LAYOUTS, SHAPES, STEPS, VIEW
from .marks import mark_pictures
from .placing import PlacedLayouts
from .torch_compile import forward_compiled, runs_compiled, use_compiled_override


class Executor(Protocol):
    """What the host hands a wrapper: the rest of the call."""

    class_obj: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Continue the call."""
        ...


def prepare_forward(
    executor: Executor,
    x: Tensor,
    t: Tensor,
    concat: Tensor | None,
    text: Any,
    control: Any,
    options: dict[str, Any],
    **kwargs: Any,
) -> Any:
    """Wrap one call of the host's model, which calls the DiT inside."""
    if VIEW in options:
        if concat is not None:
            concat = _pick_image_frames(concat, options[VIEW])
        if SHAPES in options:  # blocks of a session differ, the host knows those of its first one
            kwargs = {**kwargs, "latent_shapes": options[SHAPES]}
        if runs_compiled(options):
            override = AttentionOverride(options[VIEW], options)
            return forward_compiled(
                executor,
                (x, t, concat, text, control),
                options,
                kwargs,
                override,
                wrapped=_calls_wrappers(executor.class_obj.diffusion_model),
            )
        if not _calls_wrappers(executor.class_obj.diffusion_model):
            options = dict(options)
            _install(options)
    return executor(x, t, concat, text, control, options, **kwargs)


def extend_attention(executor: Executor, *args: Any, **kwargs: Any) -> Any:
    """Wrap one forward of the DiT: renumber its frames and extend its self-attention."""
    options = _transformer_options(args, kwargs)
    if VIEW in options and options[VIEW].geometry.can_place:
        # A forward outside of a session, of which nothing is kept, makes its own.
        layouts = options.get(LAYOUTS) or PlacedLayouts()
        kwargs = {**kwargs, **layouts.placed(args, kwargs, options[VIEW])}
    # A compiled forward is traced here, where nothing of the view may be read.
    if not use_compiled_override(options) and VIEW in options:
        _install(options)
        mark_pictures(options, options[VIEW], executor.class_obj)
    out = executor(*args, **kwargs)
    return options[STEPS](out, executor.class_obj, options) if STEPS in options else out


def _install(options: dict[str, Any]) -> None:
    view: BlockAttention = options[VIEW]
    # The host merges these options again for every forward, so writing to them leaks nowhere.
    if view.origin:
        options["rope_options"] = _shift_time(options.get("rope_options") or {}, view.origin)
    override = AttentionOverride(view, options)
    options["optimized_attention_override"] = override
    follow_blocks(options, override.layers, view.geometry)


def _calls_wrappers(model: object) -> bool:
    """Say whether a DiT calls the wrappers of its own forward; Mochi does not."""
    return type(getattr(model, "_orig_mod", model)).__name__ != "AsymmDiTJoint"


def _pick_image_frames(concat: Tensor, view: BlockAttention) -> Tensor:
    """Pick what the host joins to the channels for the frames of this block.

    The host has it for the frames of a clip from its first one on. No frame of it belongs to the
    state: there zeros say that nothing is given.
    """
    content = pick_frames(concat, view.first_frame, view.frames - view.state_frames)
    state = torch.zeros_like(concat[:, :, :1]).expand(-1, -1, view.state_frames, -1, -1)
    return torch.cat((state, content), dim=2)


def _transformer_options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Find the options: families take them at different positions."""
    if "transformer_options" in kwargs:
        options: dict[str, Any] = kwargs["transformer_options"]
        return options
    return next((arg for arg in args if isinstance(arg, dict)), {})


def _shift_time(rope_options: dict[str, float], origin: int) -> dict[str, float]:
    return {**rope_options, "shift_t": rope_options.get("shift_t", 0.0) + origin}
