"""The bridge from a ModelPatcher to the core: what Apply AdaState puts on a MODEL.

One `DIFFUSION_MODEL` wrapper and, inside it, one chained attention override. Both act only
while a run of ours has put its `BlockPass` into the transformer options; any other sampler
sees the model as if we were not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import comfy.patcher_extension
from comfy.model_patcher import ModelPatcher

from ..adastate_core.attention import BlockPass
from ..adastate_core.cache import KVPool
from ..adastate_core.config import StreamConfig
from ..adastate_core.errors import ConfigError, LayoutError
from ..adastate_core.families import ModelTraits, describe_model
from .kv_memory import pool_for

KEY = "adastate"
VIEW = "adastate_view"
"""Transformer option under which a run hands its `BlockPass` to the wrapper."""


@dataclass(frozen=True, slots=True, repr=False)
class Binding:
    """Keep what Apply AdaState decided with the MODEL; shared by its clones.

    Args:
        config: Options of the stream.
        traits: What the core must know about the model.
        pool: K/V sets of this model.
        weights: Digests of weight patches by the host's id of them.
    """

    config: StreamConfig
    traits: ModelTraits
    pool: KVPool
    weights: dict[object, str] = field(default_factory=dict)


def bind(model: ModelPatcher, config: StreamConfig) -> ModelPatcher:
    """Return a clone of a MODEL that can be streamed.

    Raises:
        UnsupportedFamilyError: If the model is of no supported family.
    """
    traits = describe_model(model.get_model_object("diffusion_model"))
    bound = model.clone()
    pool, memory = pool_for(bound)
    bound.set_additional_models(KEY, [memory])
    bound.set_attachments(KEY, Binding(config, traits, pool))
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    bound.remove_wrappers_with_key(kind, KEY)
    bound.add_wrapper_with_key(kind, KEY, extend_attention)
    return bound


def binding_of(model: ModelPatcher) -> Binding:
    """Return what Apply AdaState put on a MODEL.

    Raises:
        ConfigError: If the MODEL never went through Apply AdaState.
    """
    binding = model.get_attachment(KEY)
    if not isinstance(binding, Binding):
        raise ConfigError(
            "model",
            seen="a MODEL without AdaState",
            expected="one that went through Apply AdaState",
            remedy="put Apply AdaState between the loader and this node",
        )
    return binding


def extend_attention(executor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Wrap one forward of the DiT: renumber its frames and extend its self-attention."""
    options = _transformer_options(args, kwargs)
    view = options.get(VIEW)
    if view is None:
        return executor(*args, **kwargs)
    # The host merges these options anew for every forward, so writing to them leaks nowhere.
    if view.origin:
        options["rope_options"] = _shifted(options.get("rope_options") or {}, view.origin)
    previous = options.get("optimized_attention_override")
    options["optimized_attention_override"] = _Override(view, options, previous)
    return executor(*args, **kwargs)


class _Override:
    """Replace the self-attention of one forward; pass everything else on."""

    def __init__(
        self, view: BlockPass, options: dict[str, Any], previous: Callable[..., Any] | None
    ) -> None:
        self._view, self._options, self._previous = view, options, previous
        self._seen: set[int] = set()

    def __call__(
        self, func: Callable[..., Any], q: Any, k: Any, v: Any, *args: Any, **kwargs: Any
    ) -> Any:
        following = partial(self._previous, func) if self._previous else func
        layer = self._self_attention_layer()
        if layer is None:
            return following(q, k, v, *args, **kwargs)
        if q.shape[1] != self._view.block_tokens or k.shape[1] != q.shape[1]:
            raise LayoutError(
                "tokens of the block",
                seen=f"{q.shape[1]} queries, {k.shape[1]} keys",
                expected=self._view.block_tokens,
                remedy="remove nodes that add reference frames to this model",
            )
        heads = kwargs["heads"] if "heads" in kwargs else args[0]

        def attention(q: Any, k: Any, v: Any) -> Any:
            out = following(q.flatten(2), k.flatten(2), v.flatten(2), *args, **kwargs)
            return out.unflatten(-1, (heads, -1))

        q, k, v = (x.unflatten(-1, (heads, -1)) for x in (q, k, v))
        conditionings = tuple(self._options["cond_or_uncond"])
        return self._view.attend(layer, conditionings, q, k, v, attention).flatten(2)

    def _self_attention_layer(self) -> int | None:
        """Return the layer of a self-attention: the first attention call in each Wan block."""
        block = self._options.get("block_index")
        if block is None or block in self._seen:
            return None
        self._seen.add(block)
        return int(block)


def _transformer_options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Find the options: families take them at different positions."""
    if "transformer_options" in kwargs:
        options: dict[str, Any] = kwargs["transformer_options"]
        return options
    return next((arg for arg in args if isinstance(arg, dict)), {})


def _shifted(rope_options: dict[str, float], origin: int) -> dict[str, float]:
    return {**rope_options, "shift_t": rope_options.get("shift_t", 0.0) + origin}
