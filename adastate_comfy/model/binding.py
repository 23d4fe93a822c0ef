"""What Apply AdaState puts on a MODEL, and how a run finds it again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ...adastate_core.anchors import AnchorPolicy, policy_for
from ...adastate_core.attention.kernel_choice import KernelChoice
from ...adastate_core.attention.kv_cache import KVCachePool
from ...adastate_core.clock import StreamClock
from ...adastate_core.config import StreamConfig
from ...adastate_core.errors import ConfigError
from ...adastate_core.families import ModelTraits, describe_model
from ...adastate_core.fingerprint import ModelFingerprint
from .keys import KERNELS, KEY
from .kv_pool_patcher import CachePlace, attach_pool_patcher, make_pool
from .option_key import ObjectNumbers
from .prepared_texts import PreparedTexts
from .torch_compile import AttentionCall, is_compiled
from .wrappers import extend_attention, prepare_forward

AttentionChoice = Literal["as ComfyUI", "fastest"]


@dataclass(slots=True, repr=False)
class Binding:
    """What Apply AdaState decided with a MODEL and has learned of it since; shared by its clones.

    Args:
        config: Options of the stream.
        traits: What the core must know about the model.
        pool: KV caches of this model.
        note: In what the options leave the preset that was chosen; empty if in nothing.
        fingerprint: The fingerprint of the base weights, once it is known.
        layout_checked: With which clocks, and with sound or without, the model was found to be as
            `traits` say.
        weights: Digests of weight patches by the host's id of them.
        calls: Attention calls of one forward, known once a compiled model has run.
        numbers: Numbers of the functions and objects that were found on the MODEL.
        rehearsed: What was found to work with what is attached to the MODEL.
        kernels: The attention kernels that are fastest, None if ComfyUI's own are to be used.
        texts: Texts of prompts as the model has prepared them.
    """

    config: StreamConfig
    traits: ModelTraits
    pool: KVCachePool
    note: str = ""
    fingerprint: ModelFingerprint | None = None
    layout_checked: set[tuple[StreamClock | None, bool]] = field(default_factory=set)
    weights: dict[object, str] = field(default_factory=dict)
    calls: list[AttentionCall] = field(default_factory=list)
    numbers: ObjectNumbers = field(default_factory=ObjectNumbers)
    rehearsed: set[str] = field(default_factory=set)
    kernels: KernelChoice | None = None
    texts: PreparedTexts = field(default_factory=PreparedTexts)


@dataclass(frozen=True, slots=True, repr=False)
class BoundModel:
    """A MODEL that went through Apply AdaState, with all that a run asks it for.

    Args:
        model: The MODEL.
        binding: What Apply AdaState put on it.
        traits: What the core must know about the model as it is now, compiled or not.
        policy: Anchor policy of the options.
    """

    model: ModelPatcher
    binding: Binding
    traits: ModelTraits
    policy: AnchorPolicy

    def at(self, frame_rate: Fraction) -> BoundModel:
        """Return the model with what is known of it at the frame rate of a prompt."""
        return replace(self, traits=self.traits.at(frame_rate))

    @property
    def config(self) -> StreamConfig:
        """Return the options of the stream."""
        return self.binding.config

    @property
    def pool(self) -> KVCachePool:
        """Return the KV caches of this model."""
        return self.binding.pool


def bind(
    model: ModelPatcher,
    config: StreamConfig,
    place: CachePlace = "device",
    note: str = "",
    attention: AttentionChoice = "as ComfyUI",
) -> ModelPatcher:
    """Return a clone of a MODEL that can be streamed.

    Args:
        model: The MODEL.
        config: Options of the stream.
        place: Where keys and values of the past are kept.
        note: What a step is to say of the options.
        attention: Which attention kernels compute the self-attentions.

    Raises:
        UnsupportedFamilyError: If the model is of no supported family.
    """
    traits = describe_model(model.get_model_object("diffusion_model"))
    bound = model.clone()
    pool, patcher = make_pool(bound, config.cache_precision, place)
    attach_pool_patcher(bound, patcher)
    kernels = KernelChoice() if attention == "fastest" else None
    bound.set_attachments(KEY, Binding(config, traits, pool, note=note, kernels=kernels))
    # Among the options it is part of the keys of the cache too: it decides the last bits.
    options = bound.model_options.setdefault("transformer_options", {})
    options.pop(KERNELS, None)
    if kernels is not None:
        options[KERNELS] = kernels
    # Every family is called through the second; the first comes after other packs' wrappers of
    # that kind and is the one to renumber frames in, but not every model class calls it.
    wrappers = {
        WrappersMP.DIFFUSION_MODEL: extend_attention,
        WrappersMP.APPLY_MODEL: prepare_forward,
    }
    for kind, wrapper in wrappers.items():
        bound.remove_wrappers_with_key(kind, KEY)
        bound.add_wrapper_with_key(kind, KEY, wrapper)
    return bound


def bound_model(model: ModelPatcher, name: str = "model") -> BoundModel:
    """Return a MODEL with what Apply AdaState put on it.

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
            problem=f"{name} is not from Apply AdaState",
            seen="a MODEL without AdaState",
            expected="one that went through Apply AdaState",
            remedy="put Apply AdaState between the loader and this node",
        )
    traits = binding.traits
    if is_compiled(model):
        # Positions of the block are part of the compiled graph, so they are the same for all.
        traits = replace(traits, can_shift=False)
    return BoundModel(model, binding, traits, policy_for(binding.config))
