"""Refuse what a stream cannot use, before any work starts."""

from __future__ import annotations

import math
from typing import Any

import comfy.samplers
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...adastate_core.errors import ConfigError
from ...adastate_core.stream.conditioning import Conditioning
from ...adastate_core.stream.events import Conditions
from ..model.binding import BoundModel
from ..model.rehearsal import guidance_functions
from ..sockets.conditioning import has_image, record
from .model_checks import check_anchor, check_chunk, check_compiling, check_model, check_placing
from .sampler_copy import renoises
from .sound_schedule import begins_anew
from .sound_steps import has_slope

_PARTIAL = ("area", "mask", "start_percent", "end_percent", "clip_start_percent")
_MASKS = ("concat_mask", "denoise_mask")
_MORE_SOUND = ("ref_audio",)
_MORE_FRAMES = (
    "reference_latents",
    "time_dim_concat",
    "time_dim_replace",
    "context_latents",
    "keyframe_idxs",
    "guiding_latent",
    "ref_latent",
    "guide_attention_entries",
    "generated_keyframes",
    *_MORE_SOUND,
    "minimax_keyframes",
    "minimax_refs",
)


def check_step(
    models: list[BoundModel],
    positive: list[Any],
    negative: list[Any] | None,
    cfg: float,
    sampler: comfy.samplers.Sampler,
    sigmas: Tensor,
    *,
    with_sound: bool = False,
) -> Conditions:
    """Check everything that a step was given, and return its recorded conditionings.

    Args:
        models: The model, or the pair.
        positive: Positive CONDITIONING.
        negative: Negative CONDITIONING, or None.
        cfg: Guidance scale.
        sampler: The artist's SAMPLER.
        sigmas: The artist's SIGMAS.
        with_sound: Whether the stream has sound.

    Raises:
        ConfigError: For what a stream cannot use.
    """
    first, patchers = models[0], [each.model for each in models]
    for model in patchers:
        check_model(model)
    check_anchor(first)
    check_placing(first)
    check_compiling(first)
    check_chunk(first)
    check_sampling(sampler, sigmas)
    guided = any(is_guided(model, sampler, cfg) for model in patchers)
    # Guidance of other nodes may ask for the negative at any cfg.
    guided = guided or (negative is not None and any(map(guidance_functions, patchers)))
    conditions = record_conditions(positive, negative, guided, cfg)
    check_text(first, positive, negative if guided else None)
    check_image(first, positive, negative)
    check_sound(first, sampler, with_sound=with_sound)
    return conditions


def check_sampling(sampler: comfy.samplers.Sampler, sigmas: Tensor) -> None:
    """Refuse samplers and sigmas that cannot make a clean chunk.

    Raises:
        ConfigError: For core's own autoregressive sampler, or sigmas that do not end at 0.
    """
    function = getattr(sampler, "sampler_function", None)
    if getattr(function, "__name__", "") == "sample_ar_video":
        raise ConfigError(
            "sampler",
            problem="Sampler AR Video makes chunks by itself, and so does Stream Chunks",
            seen="Sampler AR Video",
            expected="a plain sampler, since Stream Chunks is the loop over chunks",
            remedy="use KSamplerSelect; for distilled models choose lcm there",
        )
    scale = getattr(sampler, "extra_options", {}).get("total_upscale", 1.0)
    if scale != 1.0:
        raise ConfigError(
            "sampler",
            problem=(
                f"SamplerLCMUpscale changes the size ({scale:g} times), and all chunks have one "
                "size"
            ),
            seen=f"SamplerLCMUpscale with a scale_ratio of {scale:g}",
            expected="a sampler that keeps the size, since chunks follow each other in one size",
            remedy="set scale_ratio to 1, or use KSamplerSelect",
        )
    if len(sigmas) < 2 or float(sigmas[-1]) != 0.0:
        raise ConfigError(
            "sigmas",
            problem="the sigmas do not run down to 0",
            seen=[round(float(s), 3) for s in sigmas][-4:],
            expected="two or more noise levels that end at 0",
            remedy="connect the whole schedule, not one part of it",
        )


def check_sound(bound: BoundModel, sampler: comfy.samplers.Sampler, *, with_sound: bool) -> None:
    """Refuse sound that the model does not make, or that the sampler would spoil.

    Raises:
        ConfigError: For a sound that no model of this kind makes, and for a sampler that adds
            noise to a sound whose noise level it does not know.
    """
    if not with_sound:
        return
    if bound.traits.sound is None:
        raise ConfigError(
            "latent of New Stream",
            problem=f"this stream has sound, and {bound.traits.family} makes none",
            seen="an empty latent with sound",
            expected="an empty video latent",
            remedy="connect the empty latent node of this model to New Stream",
        )
    dit = bound.model.get_model_object("diffusion_model")
    if has_slope(dit) and renoises(sampler) and not begins_anew(sampler):
        name = sampler.sampler_function.__name__.removeprefix("sample_")
        raise ConfigError(
            "sampler",
            problem=(
                f"{name} adds noise at every step, and in this ComfyUI the sound of "
                f"{bound.traits.family} has a noise level of its own that {name} does not know"
            ),
            seen=f"{name}, with sound",
            expected="euler or lcm, which are exact in any number of steps",
            remedy="choose euler or lcm on KSamplerSelect, or update ComfyUI",
        )


def check_text(bound: BoundModel, positive: list[Any], negative: list[Any] | None) -> None:
    """Refuse prompts whose tokens have another width than the model reads, where that is known.

    Raises:
        ConfigError: If a prompt was encoded for another model.
    """
    width = bound.traits.text_width
    for name, given in (("positive", positive), ("negative", negative)):
        seen = given[0][0].shape[-1] if given else width
        if width and seen not in (width, *bound.traits.more_text_widths):
            raise ConfigError(
                name,
                problem=(
                    f"{'this' if name == 'positive' else 'the negative'} prompt comes from another "
                    f"text encoder than this model's: {seen} numbers a token, the model reads "
                    f"{width}"
                ),
                seen=f"{seen} numbers a token",
                expected=f"{width}",
                remedy="load the text encoder that belongs to the model",
            )


def check_image(bound: BoundModel, positive: list[Any], negative: list[Any] | None) -> None:
    """Refuse image-to-video weights without an image, and masks where they are noise levels.

    Raises:
        ConfigError: If a conditioning gives no image with every frame, or a mask.
    """
    for name, given in (("positive", positive), ("negative", negative)):
        masks = [key for key in _MASKS if given is not None and key in given[0][1]]
        if bound.traits.mask_is_noise and masks:
            raise ConfigError(
                name,
                problem=(
                    f"{name} has a mask ({masks[0]}), which would keep parts of every chunk from "
                    "being made"
                ),
                seen=f"{masks[0]} on the conditioning",
                expected="text alone",
                remedy=f"remove the image-to-video node before {name}, and give the picture to "
                "start_latent of New Stream",
            )
        if bound.traits.needs_image and given is not None and not has_image(given):
            raise ConfigError(
                name,
                problem=f"Image-to-video model: there is no image in {name}",
                seen="no image, for an image-to-video model",
                expected="an image with every frame",
                remedy=(
                    "connect WanImageToVideo with a start image between the prompts and this node"
                ),
            )


def is_guided(model: ModelPatcher, sampler: comfy.samplers.Sampler, cfg: float) -> bool:
    """Say whether the negative conditioning takes part in this run.

    The host leaves it out at a cfg of 1, unless the model or the sampler asks for it.
    """
    if not math.isclose(cfg, 1.0) or model.model_options.get("disable_cfg1_optimization", False):
        return True
    function = getattr(sampler, "sampler_function", None)
    return getattr(function, "__name__", "").endswith("_pp")


def record_conditions(
    positive: list[Any], negative: list[Any] | None, guided: bool, cfg: float
) -> Conditions:
    """Record the conditionings of a step.

    Raises:
        ConfigError: If one has several or partial entries, or guidance lacks a negative.
    """
    if guided and negative is None:
        raise ConfigError(
            "cfg",
            problem=_no_negative(cfg),
            seen=f"{cfg} without a negative conditioning",
            expected="a negative, since this cfg, sampler or model compares with one",
            remedy="connect one to negative, or set cfg to 1",
        )
    return Conditions(
        _record_one(positive, "positive"),
        _record_one(negative, "negative") if negative is not None else None,
        guided,
    )


def _no_negative(cfg: float) -> str:
    """Say why a negative prompt is needed: cfg asks for it, or else the sampler or the model."""
    if cfg > 1.0:
        return "cfg above 1 needs a negative prompt"
    return f"this sampler or model compares with a negative prompt (cfg is {cfg:g})"


def _record_one(conditioning: list[Any], name: str) -> Conditioning:
    if len(conditioning) != 1:
        raise ConfigError(
            name,
            problem=f"{name} is {len(conditioning)} prompts combined, and a chunk takes one"
            if conditioning
            else f"{name} is empty",
            seen=f"{len(conditioning)} combined conditionings",
            expected="exactly one",
            remedy=f"connect one prompt to {name}; to change it on the way, use Stream Timeline",
        )
    partial = [key for key in _PARTIAL if key in conditioning[0][1]]
    if partial:
        raise ConfigError(
            name,
            problem=(
                f"{name} holds for a part of the picture or of the steps only "
                f"({', '.join(partial)})"
            ),
            seen=f"a conditioning limited by {', '.join(partial)}",
            expected="one that holds for the whole image and every step",
            remedy=f"remove the area, mask or timestep node before {name}",
        )
    more = [key for key in _MORE_FRAMES if key in conditioning[0][1]]
    if more:
        raise ConfigError(
            name,
            problem=(
                f"{name} brings {_kind(more)} of its own ({', '.join(more)}), which a stream has "
                "no place for"
            ),
            seen=f"a conditioning with frames of its own ({', '.join(more)})",
            expected="text, and at most an image for every frame",
            remedy=f"remove the reference or keyframe node before {name}",
        )
    return record(conditioning)


def _kind(keys: list[str]) -> str:
    return "sound" if set(keys) <= set(_MORE_SOUND) else "pictures"
