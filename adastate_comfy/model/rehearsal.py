"""Find out before the first step whether a stream can be made with what is attached to a MODEL.

Other nodes put functions on a MODEL that guide the sampler, or run in place of blocks. Guidance is
tried at every noise level with a forward that returns zeros, which shows whose forwards it asks
for. Blocks are tried in one real forward, as a commit makes it, which shows whether every layer is
computed once. Nothing is tried where nothing is attached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...adastate_core.attention.block_attention import SelfAttention
from ...adastate_core.attention.geometry import AttentionGeometry
from ...adastate_core.errors import ConfigError, LayoutError
from .blocks import block_patches
from .option_key import GUIDANCE


def guidance_functions(model: ModelPatcher) -> list[Callable[..., Any]]:
    """Return the functions of other nodes that guide the sampler."""
    found: list[Callable[..., Any]] = []
    for name in GUIDANCE:
        given = model.model_options.get(name)
        found += given if isinstance(given, list) else [given] if given is not None else []
    return found


def block_functions(model: ModelPatcher) -> list[Callable[..., Any]]:
    """Return the functions of other nodes that run in place of blocks of the model."""
    return list(block_patches(model.model_options.get("transformer_options", {})).values())


def node_names(functions: list[Callable[..., Any]]) -> str:
    """Name the nodes that functions come from, as their code calls them."""
    names = []
    for function in functions:
        qualified = getattr(function, "__qualname__", None)
        # A function is usually made inside the class of its node.
        names.append(qualified.split(".")[0] if qualified else type(function).__name__)
    return ", ".join(dict.fromkeys(names))


class CommitProbe:
    """A view that counts the layers of one forward and lets it attend to itself.

    Args:
        geometry: How the model numbers its layers.
        frames: Frames of the block.
        ticks: Latents of its sound.
    """

    origin = first_frame = 0
    conditionings: tuple[int, ...] = (0,)

    def __init__(self, geometry: AttentionGeometry, frames: int, ticks: int = 0) -> None:
        self.geometry = geometry
        self.frames = self.state_frames = frames
        self.places = geometry.places(0, frames, ticks)
        self.layers: Counter[int] = Counter()
        self._first = geometry.calls.tracked[0].name

    def attend(self, call: SelfAttention) -> Tensor:
        """Count the layer, at the first of its calls."""
        self.layers[call.layer] += call.call.name == self._first
        return call.attention(call.q, call.k, call.v, None)


def rehearse_guidance(
    guide: Callable[[Tensor], object], sigmas: Tensor, functions: list[Callable[..., Any]]
) -> None:
    """Try guidance functions at every noise level.

    Args:
        guide: Asks for one prediction, with forwards that return zeros.
        sigmas: Noise levels.
        functions: The guidance functions.

    Raises:
        ConfigError: If they ask for a conditioning that a stream does not have.
    """
    try:
        for sigma in sigmas[:-1]:
            guide(sigma)
    except LayoutError as error:
        raise _refusal(functions, error.seen, error.expected) from error


def rehearse_blocks(
    forward: Callable[[CommitProbe], object],
    probe: CommitProbe,
    layers: range,
    functions: list[Callable[..., Any]],
) -> None:
    """Try the functions that run in place of blocks.

    Args:
        forward: Runs one forward as a commit does.
        probe: What counts its layers.
        layers: The layers of the model.
        functions: The functions.

    Raises:
        ConfigError: If a layer is skipped or computed more than once.
    """
    forward(probe)
    twice = [layer for layer in layers if probe.layers[layer] > 1]
    skipped = [layer for layer in layers if not probe.layers[layer]]
    seen = [f"layer {layer} computed twice" for layer in twice[:1]]
    seen += [f"layer {layer} skipped" for layer in skipped[:1]]
    if seen:
        raise _refusal(functions, " and ".join(seen), "every layer computed once in a forward")


def zeros_forward(check: Callable[[dict[str, Any]], object]) -> Callable[..., Tensor]:
    """Make a wrapper of the host's model that returns zeros.

    Args:
        check: Looks at the transformer options of each forward.
    """

    def forward(
        executor: Any,
        x: Tensor,
        t: Any,
        concat: Any,
        text: Any,
        control: Any,
        options: dict[str, Any],
        **kwargs: Any,
    ) -> Tensor:
        check(options)
        return torch.zeros_like(x)

    return forward


def _refusal(functions: list[Callable[..., Any]], seen: object, expected: object) -> ConfigError:
    return ConfigError(
        f"what {node_names(functions)} does to the model",
        problem=f'"{node_names(functions)}" cannot be used in a stream: {seen}',
        seen=seen,
        expected=expected,
        remedy=f"remove {node_names(functions)} from the MODEL that goes into Stream Chunks",
    )
