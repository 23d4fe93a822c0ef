"""The bridge from a ModelPatcher to the core: what Apply AdaState puts on a MODEL.

Two wrappers around a forward and, inside them, one chained attention override. They act only
while a run of ours has put its `BlockPass` into the transformer options; any other sampler
sees the model as if we were not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.nn.functional import pad

from ...adastate_core.attention.chunk_attention import BlockView
from ...adastate_core.attention.kv_cache import KVPool
from ...adastate_core.attention.layers import LayerCounter
from ...adastate_core.config import StreamConfig
from ...adastate_core.errors import ConfigError, LayoutError
from ...adastate_core.families import ModelTraits, describe_model
from ...adastate_core.fingerprint import ModelFingerprint
from ..sockets.conditioning import pick_frames
from .blocks import block_name, follow_blocks
from .kv_pool_patcher import CachePlace, attach_memory, pool_for
from .option_key import ObjectNumbers
from .torch_compile import OVERRIDE, AttentionCall, is_compiled, run_forward, runs_compiled

KEY = "adastate"
_APPLY_MODEL, _DIFFUSION_MODEL = WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL
VIEW = "adastate_view"
"""Transformer option under which a run hands its `BlockView` to the wrapper."""
FIRST_LAYER = "adastate_first_layer"
"""The same for the number of the model's first layer, 0 unless models share a K/V set."""
ROLES = "adastate_roles"
"""The same for the indices of the session's conditionings, by the ids that the host gives them."""


@dataclass(frozen=True, slots=True, repr=False)
class Binding:
    """Keep what Apply AdaState decided with the MODEL; shared by its clones.

    Args:
        config: Options of the stream.
        traits: What the core must know about the model.
        pool: K/V sets of this model.
        weights: Digests of weight patches by the host's id of them.
        fingerprints: The fingerprint of the base weights, once it is known.
        layout_checked: Set once the model was found to be as `traits` say.
        attention_calls: Attention calls of one forward, known once a compiled model has run.
        numbers: Numbers of the functions and objects that were found on the MODEL.
        rehearsed: What was found to work with what hangs on the MODEL.
        note: In what the options leave the preset that was chosen; empty if in nothing.
    """

    config: StreamConfig
    traits: ModelTraits
    pool: KVPool
    weights: dict[object, str] = field(default_factory=dict)
    fingerprints: list[ModelFingerprint] = field(default_factory=list)
    layout_checked: Event = field(default_factory=Event)
    attention_calls: list[AttentionCall] = field(default_factory=list)
    numbers: ObjectNumbers = field(default_factory=ObjectNumbers)
    rehearsed: set[str] = field(default_factory=set)
    note: str = ""


def bind(
    model: ModelPatcher, config: StreamConfig, place: CachePlace = "device", note: str = ""
) -> ModelPatcher:
    """Return a clone of a MODEL that can be streamed.

    Args:
        model: The MODEL.
        config: Options of the stream.
        place: Where keys and values of the past are kept.
        note: What a step is to say of the options.

    Raises:
        UnsupportedFamilyError: If the model is of no supported family.
    """
    traits = describe_model(model.get_model_object("diffusion_model"))
    bound = model.clone()
    pool, memory = pool_for(bound, config.cache_precision, place)
    attach_memory(bound, memory)
    bound.set_attachments(KEY, Binding(config, traits, pool, note=note))
    # Every family is called through the second; the first comes after other packs' wrappers of
    # that kind and is the one to renumber frames in, but not every model class calls it.
    wrappers = {_DIFFUSION_MODEL: extend_attention, _APPLY_MODEL: prepare_forward}
    for kind, wrapper in wrappers.items():
        bound.remove_wrappers_with_key(kind, KEY)
        bound.add_wrapper_with_key(kind, KEY, wrapper)
    return bound


def binding_of(model: ModelPatcher, name: str = "model") -> Binding:
    """Return what Apply AdaState put on a MODEL.

    Args:
        model: The MODEL.
        name: What the node calls it.

    Raises:
        ConfigError: If the MODEL never went through Apply AdaState.
    """
    binding = model.get_attachment(KEY)
    if not isinstance(binding, Binding):
        raise ConfigError(
            name,
            seen="a MODEL without AdaState",
            expected="one that went through Apply AdaState",
            remedy="put Apply AdaState between the loader and this node",
        )
    if is_compiled(model):
        # Positions of the block are part of the compiled graph, so they are the same for all.
        return replace(binding, traits=replace(binding.traits, can_shift=False))
    return binding


def prepare_forward(
    executor: Callable[..., Any],
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
            concat = _joined(concat, options[VIEW])
        if runs_compiled(options):
            return _forward_compiled(executor, (x, t, concat, text, control), options, kwargs)
        if not _calls_wrappers(executor.class_obj.diffusion_model):
            options = dict(options)
            _install(options)
    return executor(x, t, concat, text, control, options, **kwargs)


def extend_attention(executor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Wrap one forward of the DiT: renumber its frames and extend its self-attention."""
    options = _transformer_options(args, kwargs)
    if OVERRIDE in options:  # this may be traced, where nothing of the view may be read
        options["optimized_attention_override"] = options[OVERRIDE]
    elif VIEW in options:
        _install(options)
    return executor(*args, **kwargs)


def _forward_compiled(
    executor: Callable[..., Any],
    inputs: tuple[Any, ...],
    options: dict[str, Any],
    kwargs: dict[str, Any],
) -> Any:
    host = executor.class_obj
    calls = host.current_patcher.get_attachment(KEY).attention_calls
    wrapped = _calls_wrappers(host.diffusion_model)

    def forward(options: dict[str, Any]) -> Any:
        if not wrapped:
            options["optimized_attention_override"] = options[OVERRIDE]
        return executor(*inputs, options, **kwargs)

    return run_forward(forward, options, _override(options), calls)


def _install(options: dict[str, Any]) -> None:
    view: BlockView = options[VIEW]
    # The host merges these options anew for every forward, so writing to them leaks nowhere.
    if view.origin:
        options["rope_options"] = _shifted(options.get("rope_options") or {}, view.origin)
    override = _override(options)
    options["optimized_attention_override"] = override
    follow_blocks(options, override.layers, view.shape)


def _override(options: dict[str, Any]) -> _Override:
    return _Override(options[VIEW], options)


def conditionings_of(options: dict[str, Any]) -> tuple[int, ...]:
    """Return the conditioning index of each equal slice of a forward's batch.

    A guidance function may compute one of them alone, or in another order; what tells them apart
    is the id that the host gives each.

    Raises:
        LayoutError: If one is not of this step.
    """
    places = tuple(options["cond_or_uncond"])
    roles = options.get(ROLES)
    if roles is None:
        return places
    found = tuple(roles.get(each) for each in options["uuids"])
    if None in found:
        raise LayoutError(
            "conditioning of a forward",
            seen="one that is neither positive nor negative",
            expected="the two that this step is given, whose memory the stream has",
            remedy="remove the guidance node that adds a conditioning of its own",
        )
    return found  # type: ignore[return-value]  # no None among them


class _Override:
    """The self-attention of one forward, extended by the past; all else is passed on."""

    def __init__(self, view: BlockView, options: dict[str, Any]) -> None:
        self._view, self._first_layer = view, options.get(FIRST_LAYER, 0)
        self._previous = options.get("optimized_attention_override")
        self._conditionings = conditionings_of(options)
        self.layers = LayerCounter(view.shape.calls)

    def __call__(
        self, func: Callable[..., Any], q: Any, k: Any, v: Any, *args: Any, **kwargs: Any
    ) -> Any:
        following = partial(self._previous, func) if self._previous else func
        options = kwargs.get("transformer_options") or {}
        layer = self.layers.layer(block_name(options))
        if layer is None:
            return following(q, k, v, *args, **kwargs)
        form = _Form.of(args, kwargs)
        q, k, v = (form.split(x) for x in (q, k, v))
        self._require_block(q.shape[1], k.shape[1])

        def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
            given = form.extended(kwargs, k.shape[1], bias)
            out = following(form.merge(q), form.merge(k), form.merge(v), *args, **given)
            return form.split_output(out)

        layer += self._first_layer
        attended = self._view.attend(layer, self._conditionings, q, k, v, attention)
        return form.merge_output(attended)

    def _require_block(self, queries: int, keys: int) -> None:
        shape = self._view.shape
        expected, joint = self._view.frames * shape.tokens_per_frame, shape.text != "apart"
        if keys != queries or queries < expected or (queries > expected and not joint):
            raise LayoutError(
                "tokens of the block",
                seen=f"{queries} queries, {keys} keys",
                expected=expected,
                remedy="remove nodes that add reference frames to this model",
            )


@dataclass(frozen=True, slots=True)
class _Form:
    """Know in which form an attention call hands its tensors over.

    Args:
        heads: Heads.
        by_head: Whether queries, keys and values come as (B, H, S, D), not as (B, S, H D).
        output_by_head: The same for what the call returns.
    """

    heads: int
    by_head: bool
    output_by_head: bool

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Form:
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

    def extended(self, kwargs: dict[str, Any], keys: int, bias: Tensor | None) -> dict[str, Any]:
        """Return the call's options with a mask that also covers the keys in front.

        Args:
            kwargs: The call's options.
            keys: Keys that are attended to now.
            bias: What to add to the logits of each of them, or None.
        """
        mask = kwargs.get("mask")
        if mask is None and bias is None:
            return kwargs
        if mask is None:
            return {**kwargs, "mask": bias[None, None, None]}
        if bias is not None and mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=bias.dtype, device=mask.device).masked_fill(
                ~mask, -torch.inf
            )
        visible = True if mask.dtype == torch.bool else 0.0
        mask = pad(mask, (keys - mask.shape[-1], 0), value=visible)
        return {**kwargs, "mask": mask if bias is None else mask + bias}


def _calls_wrappers(model: object) -> bool:
    """Say whether a DiT calls the wrappers of its own forward; Mochi does not."""
    return type(getattr(model, "_orig_mod", model)).__name__ != "AsymmDiTJoint"


def _joined(concat: Tensor, view: BlockView) -> Tensor:
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


def _shifted(rope_options: dict[str, float], origin: int) -> dict[str, float]:
    return {**rope_options, "shift_t": rope_options.get("shift_t", 0.0) + origin}
