"""A step of a stream as the nodes make it: all is checked, then chunks are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import comfy.samplers
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...adastate_core.anchors import policy_for
from ...adastate_core.rollout.stream_chunks import Host, StreamRequest, stream_chunks
from ...adastate_core.stream.state import StreamState
from ..model.bridge import KEY, Binding, binding_of
from ..model.fingerprint import fingerprint_of, joint_digest, joint_fingerprint, weights_digest
from ..model.kv_pool_patcher import memory_of
from ..model.option_key import options_key
from ..progress import StreamProgress
from ..sockets.latents import into_model_space
from .checks import check_size, check_step
from .expert_pair import ExpertsHost, paired, steps_above
from .memory_plan import announce, plan_memory
from .session import ComfyHost


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """Know all that the next chunks of a stream need.

    Args:
        start: The stream so far, its latents in the model's space.
        request: What to make.
        host: Owner of the model or the pair of models.
        binding: What Apply AdaState put on the model.
        progress: Where steps and chunks are reported.
    """

    start: StreamState
    request: StreamRequest
    host: Host
    binding: Binding
    progress: StreamProgress

    @classmethod
    def checked(
        cls,
        model: ModelPatcher,
        state: StreamState,
        positive: list[Any],
        cfg: float,
        sampler: comfy.samplers.Sampler,
        sigmas: Tensor,
        seed: int,
        chunks: int,
        negative: list[Any] | None = None,
        model_low_noise: ModelPatcher | None = None,
        switch_sigma: float = 0.875,
        *,
        node_id: str | None = None,
        at_once: int | None = None,
    ) -> Step:
        """Check everything that can be checked before work starts.

        The arguments are the inputs of Stream Chunks, a node to write progress under, and how many
        chunks one `run` makes, if not all.

        Raises:
            AdaStateError: For what cannot be streamed.
        """
        binding = binding_of(model)
        models = [model] if model_low_noise is None else [model, paired(model, model_low_noise)]
        conditions = check_step(models, positive, negative, cfg, sampler, sigmas)
        for each in models:
            check_size(each, state.latent_shape)
        block_shape = _block_shape(state, binding)
        plan = plan_memory(
            models, binding, block_shape, guided=conditions.guided,
            chunks=chunks, at_once=at_once or chunks, first=state.next_frame == 0,
        )  # fmt: skip
        memory_of(model).announce(plan.cache_bytes + plan.ready_bytes, plan.set_bytes)
        shape = binding.traits.block_shape(*state.latent_shape[2:])
        pairs = [(each, binding_of(each)) for each in models]
        request = StreamRequest(
            chunks=chunks,
            seed=seed,
            conditions=conditions,
            config=binding.config,
            weights=joint_digest([weights_digest(*pair) for pair in pairs]),
            fingerprint=joint_fingerprint(
                [fingerprint_of(*pair, state.fingerprint) for pair in pairs]
            ),
            shape=replace(shape, layers=shape.layers * len(models)),
            setup=" ".join(options_key(each, KEY, its.numbers) for each, its in pairs),
        )
        progress = StreamProgress(
            model,
            chunks=chunks,
            steps=len(sigmas) - 1,
            first_chunk=state.chunk_index,
            node_id=node_id,
            note=binding.note,
        )
        progress.say(announce(plan, model, binding))
        hosts = [
            ComfyHost(*pair, sampler, sigmas, cfg, block_shape, progress, i * shape.layers)
            for i, pair in enumerate(pairs)
        ]
        host: Host = hosts[0]
        if len(hosts) > 1:
            host = ExpertsHost(*hosts, steps_above(sigmas, switch_sigma))
        return cls(into_model_space(state, model), request, host, binding, progress)

    def run(
        self, state: StreamState, chunks: int, on_chunk: Callable[[StreamState], None] | None = None
    ) -> StreamState:
        """Make chunks and return the stream after them.

        Args:
            state: `start`, or what an earlier run of this step has returned.
            chunks: How many of the step's chunks to make now.
            on_chunk: Called with the new state after every chunk.
        """

        def made(after: StreamState) -> None:
            self.progress.chunk()
            if on_chunk is not None:
                on_chunk(after)

        request = replace(self.request, chunks=chunks)
        return stream_chunks(
            state, request, self.host, self.binding.pool, made, self.progress.replay
        )


def _block_shape(state: StreamState, binding: Binding) -> tuple[int, int, int, int, int]:
    batch, channels, height, width = state.latent_shape
    config = binding.config
    frames = policy_for(config).state_frames(config) + config.chunk_frames
    return batch, channels, frames, height, width
