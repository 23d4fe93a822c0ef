"""Two models for one stream, as Wan 2.2 14B has them: one for high noise and one for low.

Both have seen every past frame, so a commit forwards the clean block through both. Their keys and
values lie in one KV cache, the layers of the second after those of the first. The steps of a chunk
go to one and then to the other, each in a sampling session of its own, so that the host may have
only one of them in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...adastate_core.attention.block_attention import BlockAttention
from ...adastate_core.errors import ConfigError
from ...adastate_core.rollout.latent_block import LatentBlock
from ...adastate_core.rollout.noise import BlockNoise, CommitNoise
from ...adastate_core.rollout.stream_chunks import Session
from ...adastate_core.stream.events import Conditions
from ..model.binding import BoundModel, bound_model
from ..model.fingerprint import fingerprint_of, weights_digest
from ..model.kv_pool_patcher import attach_pool_patcher, pool_patcher_of
from ..model.torch_compile import is_compiled
from .session import ComfyHost, ComfySession


def pair_models(high: BoundModel, low: ModelPatcher) -> BoundModel:
    """Return the low-noise model, made to load together with the KV caches of the other.

    Raises:
        ConfigError: If the two do not belong together.
    """
    theirs = bound_model(low, "model_low_noise")
    if is_compiled(high.model) != is_compiled(low):
        raise _mismatch(
            "one of the two models is compiled and the other is not",
            "one compiled and one plain model",
            "both alike",
            "compile both models or neither",
        )
    if theirs.traits != high.traits:
        raise _mismatch(
            f"model_low_noise is a {_describe(theirs)}, and model is a {_describe(high)}",
            _describe(theirs),
            f"another {_describe(high)}, like model",
            "load the two files of one model",
        )
    if theirs.config != high.config:
        raise _mismatch(
            "the two models have different settings on Apply AdaState",
            "other options of Apply AdaState than model",
            "the same options",
            "give both Apply AdaState nodes the same settings",
        )
    if _identity(high) == _identity(theirs):
        raise _mismatch(
            "model_low_noise is the same file as model",
            "the same weights as model",
            "the low-noise model of the pair",
            "load the other file, or leave model_low_noise out",
        )
    clone = low.clone()
    attach_pool_patcher(clone, pool_patcher_of(high.model))
    return replace(theirs, model=clone)


def steps_above(sigmas: Tensor, switch_sigma: float) -> int:
    """Count the steps that begin at or above a noise level."""
    return int((sigmas[:-1] >= switch_sigma).sum())


@dataclass(frozen=True, slots=True, repr=False)
class ExpertPairHost:
    """Two models for one step.

    Args:
        high: Host of the model for high noise.
        low: Host of the model for low noise; its layers come after those of the other.
        high_steps: Steps of a chunk that the first one makes.
    """

    high: ComfyHost
    low: ComfyHost
    high_steps: int

    def run(self, conditions: Conditions, body: Callable[[Session], object]) -> None:
        """Call `body` with a session that opens those of the models in turn."""
        body(_ExpertPairSession(self, conditions))


class _ExpertPairSession:
    """A session that opens those of two models in turn."""

    def __init__(self, hosts: ExpertPairHost, conditions: Conditions) -> None:
        self._hosts, self._conditions = hosts, conditions

    def denoise(self, noise: BlockNoise, view: BlockAttention) -> LatentBlock:
        """Sample one block, first with one model and then with the other."""
        cut, sigmas = self._hosts.high_steps, self._hosts.high.sigmas
        block: LatentBlock | None = None

        def make(stretch: Tensor, first_step: int, session: ComfySession) -> None:
            nonlocal block
            block = session.sample(noise, view, stretch, block, first_step)

        sessions = ((self._hosts.high, sigmas[: cut + 1], 0), (self._hosts.low, sigmas[cut:], cut))
        for host, stretch, first_step in sessions:
            if len(stretch) > 1:
                host.run(self._conditions, partial(make, stretch, first_step))
        assert block is not None  # a schedule has at least one step
        return block

    def commit(self, block: LatentBlock, view: BlockAttention) -> None:
        """Forward a clean block once through either model."""
        # The low-noise model made the last steps, so it is the one that is still loaded.
        self._hosts.low.run(self._conditions, lambda session: session.forward_clean(block, view))
        self._hosts.high.run(self._conditions, lambda session: session.commit(block, view))

    def commit_noised(self, block: LatentBlock, view: BlockAttention, noise: CommitNoise) -> None:
        """Forward a block of little noise once through either model."""
        low = self._hosts.low
        low.run(self._conditions, lambda session: session.forward_clean(block, view, noise))
        self._hosts.high.run(self._conditions, lambda each: each.commit_noised(block, view, noise))

    def prefill(self, block: LatentBlock, view: BlockAttention, noise: CommitNoise) -> None:
        """Forward the text that comes with a block once through either model."""
        for host in (self._hosts.low, self._hosts.high):
            host.run(self._conditions, lambda session: session.forward_clean(block, view, noise))


def _identity(bound: BoundModel) -> tuple[str, str]:
    return fingerprint_of(bound).digest, weights_digest(bound)


def _describe(bound: BoundModel) -> str:
    traits = bound.traits
    sizes = f"{traits.layers} layers and width {traits.width}, {traits.latent_channels} channels"
    return f"{traits.family} of {sizes}"


def _mismatch(problem: str, seen: str, expected: str, remedy: str) -> ConfigError:
    return ConfigError(
        "model_low_noise", problem=problem, seen=seen, expected=expected, remedy=remedy
    )
