"""A run of a stream as the nodes make it: all is checked first, then chunks are made."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...adastate_core.attention.kernel_choice import KernelChoice
from ...adastate_core.attention.kv_cache import KVCachePool
from ...adastate_core.rollout.latent_block import LatentBlock
from ...adastate_core.rollout.stream_chunks import Host, StreamRequest, stream_chunks
from ...adastate_core.stream.events import ChunkEvent, GivenLatentsEvent
from ...adastate_core.stream.state import StreamState
from ..model.attention_kernels import describe
from ..model.binding import BoundModel, bound_model
from ..model.demo_words import demo_note
from ..model.fingerprint import fingerprint_of, joint_digest, joint_fingerprint, weights_digest
from ..model.keys import KEY
from ..model.kv_pool_patcher import pool_patcher_of
from ..model.option_key import options_key
from ..panel.panel_document import RunPlan
from ..panel.stream_view import StreamView
from ..progress import StreamProgress
from ..sockets.latents import into_model_space
from .checks import check_step
from .expert_pair import ExpertPairHost, pair_models, steps_above
from .frame_rates import at_frame_rate, check_frame_rate, frame_rate_of
from .length import pace_of
from .memory_plan import announce, plan_memory
from .model_checks import check_size
from .session import ComfyHost
from .timeline_prompts import TimelinePrompts

_WITH_LATENTS = (ChunkEvent, GivenLatentsEvent)


@dataclass(frozen=True, slots=True, repr=False)
class StreamInputs:
    """The inputs of Stream Chunks, by their names; `vae` decodes the pictures on its panel."""

    model: ModelPatcher
    state: StreamState
    positive: list[Any]
    cfg: float
    sampler: comfy.samplers.Sampler
    sigmas: Tensor
    seed: int
    chunks: int
    negative: list[Any] | None = None
    model_low_noise: ModelPatcher | None = None
    switch_sigma: float = 0.875
    vae: VAE | None = None
    fps: float = 16.0
    prompts: TimelinePrompts | None = None
    """Prompts that change on the way; `positive` is that of the first chunk then."""


@dataclass(frozen=True, slots=True, repr=False)
class StreamRun:
    """All that the next chunks of a stream need, checked and resolved once.

    Args:
        start: The stream so far, its latents in the model's space.
        request: What to make.
        host: Owner of the model or the pair of models.
        pool: KV caches of the model.
        progress: Where steps and chunks are reported.
        view: The panel of the node.
        prompts: Prompts that change on the way, or None.
        kernels: The attention kernels of the model, chosen while it runs, or None.
    """

    start: StreamState
    request: StreamRequest
    host: Host
    pool: KVCachePool
    progress: StreamProgress
    view: StreamView
    prompts: TimelinePrompts | None = None
    kernels: KernelChoice | None = None

    @classmethod
    def prepare(
        cls,
        inputs: StreamInputs,
        *,
        view: StreamView | None = None,
        together: int | None = None,
        previews: bool = True,
    ) -> StreamRun:
        """Check everything that can be checked before work starts.

        Args:
            inputs: What Stream Chunks is given.
            view: Where the run is shown, or None.
            together: How many chunks one `run` makes, if not all.
            previews: Whether ComfyUI's own previews may be sent.

        Raises:
            AdaStateError: For what cannot be streamed.
        """
        plain, state = bound_model(inputs.model), inputs.state
        inputs, rate = _at_frame_rate(inputs, plain)
        bound = plain.at(rate)
        view = view or StreamView()
        if inputs.prompts is not None:
            view.prompt = inputs.prompts.caption(state.chunk_index)
        view.note = _note(inputs, bound, view.prompt.text)
        together = together or (1 if view.decodes else inputs.chunks)
        models = [bound]
        if inputs.model_low_noise is not None:
            models.append(pair_models(plain, inputs.model_low_noise).at(rate))
        conditions = check_step(
            models,
            inputs.positive,
            inputs.negative,
            inputs.cfg,
            inputs.sampler,
            inputs.sigmas,
            with_sound=state.sound_shape is not None,
        )
        for each in models:
            check_size(each, state.latent_shape)
        block = _blank_block(state, bound)
        plan = plan_memory(
            models,
            block,
            guided=conditions.guided,
            chunks=inputs.chunks,
            together=together,
            first=state.next_frame == 0,
            fps=inputs.fps,
            text_tokens=_prefilled_tokens(inputs, bound, guided=conditions.guided),
        )
        pool_patcher_of(bound.model).announce(
            plan.cache_bytes + plan.ready_bytes, plan.begins_with_bytes
        )
        with_sound = state.sound_shape is not None
        geometry = bound.traits.geometry(*state.latent_shape[2:], sound=with_sound)
        weights = [weights_digest(each) for each in models]
        setups = [options_key(each.model, KEY, each.binding.numbers) for each in models]
        request = StreamRequest(
            chunks=inputs.chunks,
            seed=inputs.seed,
            conditions=conditions,
            config=bound.config,
            weights=joint_digest(weights),
            fingerprint=joint_fingerprint(
                [fingerprint_of(each, state.fingerprint) for each in models]
            ),
            geometry=replace(geometry, layers=geometry.layers * len(models)),
            setup=" ".join(setups),
            prompt=view.prompt.text,
        )
        progress = StreamProgress(
            bound.model,
            chunks=inputs.chunks,
            steps=len(inputs.sigmas) - 1,
            view=view,
            previews=previews,
        )
        start = into_model_space(state, bound.model)
        view.begin(start, _panel_plan(start, bound, inputs))
        kernels = bound.binding.kernels
        if kernels is not None:
            view.remark(describe(kernels))
        announced = announce(plan, bound)
        if not view.joined:
            progress.say(announced)
        hosts = [
            ComfyHost(
                each,
                inputs.sampler,
                inputs.sigmas,
                inputs.cfg,
                block,
                progress,
                first_layer=number * geometry.layers,
                identity=f"{weights[number]} {setups[number]}",
            )
            for number, each in enumerate(models)
        ]
        host: Host = hosts[0]
        if len(hosts) > 1:
            high_steps = steps_above(inputs.sigmas, inputs.switch_sigma)
            host = ExpertPairHost(hosts[0], hosts[1], high_steps)
        return cls(start, request, host, bound.pool, progress, view, inputs.prompts, kernels)

    def run(
        self,
        state: StreamState,
        chunks: int,
        on_chunk: Callable[[StreamState], object] | None = None,
    ) -> StreamState:
        """Make chunks and return the stream after them.

        Args:
            state: `start`, or what an earlier call has returned.
            chunks: How many of the chunks to make now.
            on_chunk: Called with the new state after every chunk, inside a sampling session;
                False makes it the last one.
        """
        goes_on = True

        def made(after: StreamState) -> object:
            nonlocal goes_on
            if self.kernels is not None:
                self.view.remark(describe(self.kernels))
            self.view.made(after)
            # Who keeps it comes first: the progress bar raises the host's interruption.
            goes_on = on_chunk is None or on_chunk(after) is not False
            self.progress.chunk()
            return goes_on

        def make(state: StreamState, request: StreamRequest) -> StreamState:
            after = stream_chunks(state, request, self.host, self.pool, made, self.progress.replay)
            # A model that decodes pictures is loaded between sampling sessions, never inside one.
            if self.view.decodes:
                self.view.picture(after)
            return after

        if self.prompts is None:
            together = 1 if self.view.decodes else chunks
            for first in range(0, chunks, together):
                request = replace(self.request, chunks=min(together, chunks - first))
                state = make(state, request)
                if not goes_on:
                    break
            return state
        for _ in range(chunks):
            self.view.prompt = prompt = self.prompts.caption(state.chunk_index)
            conditions = self.prompts.conditions(state.chunk_index, self.request.conditions)
            request = replace(self.request, chunks=1, conditions=conditions, prompt=prompt.text)
            state = make(self.prompts.edit(state), request)
            if not goes_on:
                break
        return state


def _at_frame_rate(inputs: StreamInputs, bound: BoundModel) -> tuple[StreamInputs, Fraction]:
    """Return the inputs with one frame rate in all prompts, and that."""
    traits, negative, prompts = bound.traits, inputs.negative, inputs.prompts
    check_frame_rate(traits, inputs.positive, negative)
    rate = frame_rate_of(traits, inputs.state, inputs.positive, negative)
    if negative is not None:
        negative = at_frame_rate(traits, negative, rate)
    if prompts is not None:
        said = {text: at_frame_rate(traits, c, rate) for text, c in prompts.encoded.items()}
        prompts = replace(prompts, encoded=said)
    positive = at_frame_rate(traits, inputs.positive, rate)
    return replace(inputs, positive=positive, negative=negative, prompts=prompts), rate


def _blank_block(state: StreamState, bound: BoundModel) -> LatentBlock:
    """Return a block of the run without anything in it, with as much sound as the longest has."""
    batch, channels, height, width = state.latent_shape
    size = bound.config.chunk_frames
    frames = bound.policy.state_frames(bound.config) + size
    clock = bound.traits.clock
    # Nothing is allocated before it is known that there is room.
    video = torch.zeros(()).expand(batch, channels, frames, height, width)
    if state.sound_shape is None or clock is None:
        return LatentBlock(video)
    ticks = clock.most_ticks(size)
    return LatentBlock(
        video, torch.zeros((batch, state.sound_shape[0], ticks, state.sound_shape[1]))
    )


def _prefilled_tokens(inputs: StreamInputs, bound: BoundModel, *, guided: bool) -> int:
    """Count the tokens of text that are prefilled at the same time, of the longest prompts."""
    if bound.config.text_sees != "prefill":
        return 0
    prompts = [inputs.positive]
    if inputs.prompts is not None:
        prompts += inputs.prompts.encoded.values()
    longest = max(int(prompt[0][0].shape[1]) for prompt in prompts)
    if not guided or not inputs.negative:
        return longest
    return longest + int(inputs.negative[0][0].shape[1])


def _note(inputs: StreamInputs, bound: BoundModel, prompt: str) -> str:
    """Return what an artist should know of the options and of the prompts."""
    texts = inputs.prompts.encoded if inputs.prompts is not None else [prompt]
    unknown, last = demo_note(bound.model, texts), inputs.state.last_chunk
    if unknown and (last is None or last.prompt != prompt):  # once for the parts of a timeline
        logging.warning("AdaState: %s.", unknown)
    notes = (bound.binding.note, unknown, _note_on_silence(inputs.state, bound))
    return "; ".join(note for note in notes if note)


def _note_on_silence(state: StreamState, bound: BoundModel) -> str:
    """Say what stands in for the sound of a clip that has none, on a model that needs some."""
    if state.sound_shape is None or not bound.traits.geometry(1, 1, sound=True).needs_sound:
        return ""
    newest = next((e for e in reversed(state.events) if isinstance(e, _WITH_LATENTS)), None)
    if not isinstance(newest, GivenLatentsEvent) or newest.content is None:
        return ""
    return "" if newest.sound is not None else "the clip has no sound: an average one stands in"


def _panel_plan(start: StreamState, bound: BoundModel, inputs: StreamInputs) -> RunPlan:
    form = bound.model.get_model_object("latent_format")
    scale = getattr(form, "spacial_downscale_ratio", 8)
    height, width = start.latent_shape[2:]
    return RunPlan(
        first_chunk=start.chunk_index,
        chunks=inputs.chunks,
        pace=pace_of(bound, inputs.fps),
        steps=len(inputs.sigmas) - 1,
        width=width * scale,
        height=height * scale,
    )
