"""Refuse a MODEL that a stream cannot use."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher

from ...adastate_core.errors import ConfigError
from ..model.binding import BoundModel
from ..model.blocks import parts_left_out
from ..model.torch_compile import check_compiled, is_compiled

_STEP_SKIPPERS = ("easycache", "lazycache", "teacache", "magcache", "firstblockcache")


def check_model(model: ModelPatcher) -> None:
    """Refuse model options that break the recurrence.

    Raises:
        ConfigError: For context windows, step-skipping caches, a temporal RoPE scale, models
            compiled to CUDA graphs and LoRAs in bypass mode.
    """
    options = model.model_options.get("transformer_options", {})
    if options.get("rope_options", {}).get("scale_t", 1.0) != 1.0:
        raise ConfigError(
            "temporal RoPE scale on the model",
            problem="ScaleROPE stretches time (scale_t), and a stream keeps time itself",
            seen=options["rope_options"]["scale_t"],
            expected="1.0, since AdaState places frames in time itself",
            remedy="set scale_t to 1.0 on the ScaleROPE node",
        )
    missing = parts_left_out(options)
    if missing:
        raise ConfigError(
            "model",
            problem=f"a node leaves out parts of the model ({', '.join(missing)})",
            seen=f"{' and '.join(missing)} turned off",
            expected="every part of every block, whose keys and values make the memory",
            remedy="remove the node that turns off sound or video in the model",
        )
    check_compiled(model)
    if model.injections:
        raise ConfigError(
            "model",
            problem=f"a node has replaced layers of the model ({', '.join(model.injections)})",
            seen=f"layers replaced by {', '.join(model.injections)}",
            expected="plain weights and patches, by which the KV cache of a stream is keyed",
            remedy="use Load LoRA in its place",
        )
    if model.get_additional_models_with_key("multigpu"):
        raise ConfigError(
            "model",
            problem="a stream cannot be spread over several devices",
            seen="the work of one MODEL on several devices",
            expected="one device, which keeps the KV cache of the stream",
            remedy="remove the MultiGPU node; several streams can use one device each",
        )
    if model.model_options.get("context_handler") is not None:
        raise ConfigError(
            "model",
            problem="a stream has a window of its own and takes no context windows",
            seen="context windows",
            expected="none, since a stream has its own window",
            remedy="remove the context window node",
        )
    wrappers = [key for kind in model.wrappers.values() for key in kind if isinstance(key, str)]
    # Caches of other packs leave their settings here instead.
    for key in (*wrappers, *(("teacache",) if "rel_l1_thresh" in options else ())):
        if any(name in key.lower().replace("_", "") for name in _STEP_SKIPPERS):
            raise ConfigError(
                "model",
                problem=f"{key} skips steps, and a stream needs them all",
                seen=f"the step-skipping cache '{key}'",
                expected="every forward computed, since commits write the KV cache",
                remedy=f"remove the {key} node",
            )


def check_anchor(bound: BoundModel) -> None:
    """Refuse an anchor that needs more of a model's layout than is known.

    Raises:
        ConfigError: For an average over the image on a model of unknown spatial rotation.
    """
    if bound.policy.averages == "picture" and bound.traits.spatial_rope is None:
        raise ConfigError(
            "anchor",
            problem=(
                f"the anchor {bound.config.anchor} does not work with this {bound.traits.family} "
                "model"
            ),
            seen=f"{bound.config.anchor} on a {bound.traits.family} model of this size",
            expected="an anchor that does not average over the image, whose places are unknown",
            remedy="choose another anchor or preset on Apply AdaState",
        )


def check_placing(bound: BoundModel) -> None:
    """Refuse a compiled model that is told in every forward where its tokens are.

    Raises:
        ConfigError: If it went through a node that compiles it.
    """
    if bound.traits.can_place and is_compiled(bound.model):
        raise ConfigError(
            "compiled model",
            problem=(
                f"{bound.traits.family} cannot be streamed compiled: it is told in every forward "
                "where a chunk is in time, which a compiled model takes for fixed"
            ),
            seen=f"a compiled {bound.traits.family}",
            expected="the plain model",
            remedy="remove the TorchCompileModel node",
        )


def check_compiling(bound: BoundModel) -> None:
    """Refuse a compiled model of a class that PyTorch cannot compile for a stream.

    Raises:
        ConfigError: If it went through a node that compiles it.
    """
    if not bound.traits.compiles and is_compiled(bound.model):
        raise ConfigError(
            "compiled model",
            problem=(
                f"{bound.traits.family} cannot be streamed compiled: PyTorch cannot follow how it "
                "computes its frequencies"
            ),
            seen=f"a compiled {bound.traits.family}",
            expected="the plain model",
            remedy="remove the TorchCompileModel node",
        )


def check_chunk(bound: BoundModel) -> None:
    """Refuse a chunk whose places in time would differ from those of the next one.

    Raises:
        ConfigError: If the chunk is no whole number of the patterns in which the model's latent
            frames stand for pictures.
    """
    size, pattern = bound.config.chunk_frames, bound.traits.pattern
    if size % pattern == 0:
        return
    below = size // pattern * pattern
    near = " or ".join(str(count) for count in (below, below + pattern) if count)
    raise ConfigError(
        "chunk_frames",
        problem=(
            f"{bound.traits.family} makes chunks of {pattern}, {2 * pattern} or {3 * pattern} "
            f"latent frames, and chunk_frames is {size}"
        ),
        seen=size,
        expected=f"a multiple of {pattern}, after which its latent frames repeat in time",
        remedy=f"set chunk_frames to {near} on Apply AdaState",
    )


def check_size(bound: BoundModel, latent_shape: tuple[int, int, int, int]) -> None:
    """Refuse latents that the host's model class cannot cut into patches.

    Args:
        bound: The MODEL.
        latent_shape: (B, C, H, W) of one latent frame.

    Raises:
        ConfigError: If height or width is no whole number of patches, for a family that needs it.
    """
    traits, (height, width) = bound.traits, latent_shape[2:]
    if traits.one_at_a_time and latent_shape[0] != 1:
        raise ConfigError(
            "batch of the stream",
            problem=f"{traits.family} makes one video at a time, and the latent holds "
            f"{latent_shape[0]}",
            seen=latent_shape[0],
            expected="a batch of 1",
            remedy="set batch_size to 1 on the latent that goes into New Stream",
        )
    if traits.takes(height, width):
        return
    pixels = getattr(bound.model.model.latent_format, "spacial_downscale_ratio", 8)
    rows, columns = (size * pixels for size in traits.patch)
    near = {
        name: " or ".join(str(size) for size in _multiples(size * pixels, step))
        for name, size, step in (("width", width, columns), ("height", height, rows))
    }
    raise ConfigError(
        "size of the stream",
        problem=(
            f"{traits.family} cannot make {width * pixels} x {height * pixels} pixels: width goes "
            f"in steps of {columns}, height in steps of {rows}"
        ),
        seen=f"latents of {width} x {height}, {width * pixels} x {height * pixels} pixels",
        expected=f"a width in steps of {columns} and a height in steps of {rows} pixels for "
        f"{traits.family}",
        remedy=f"set width to {near['width']} and height to {near['height']} on the latent that "
        "goes into New Stream",
    )


def _multiples(size: int, step: int) -> list[int]:
    """Return the sizes in whole steps that are nearest, the lower one first."""
    below = size // step * step
    return [size] if size == below else [n for n in (below, below + step) if n]
