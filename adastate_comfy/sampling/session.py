"""Run the core's recurrence inside ComfyUI's own sampling: the host side of a step.

`ComfyHost.run` opens one ordinary sampling session (conditionings, model loading, guidance all
stay the host's) whose SAMPLER is ours: it calls the core, and the core calls back here to
denoise a block with the artist's SAMPLER or to forward a clean block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ...adastate_core.attention.block_attention import BlockAttention
from ...adastate_core.attention.geometry import AttentionGeometry
from ...adastate_core.errors import LayoutError
from ...adastate_core.rollout.latent_block import LatentBlock
from ...adastate_core.rollout.noise import BlockNoise, CommitNoise
from ...adastate_core.stream.conditioning import Conditioning
from ...adastate_core.stream.events import Conditions
from ...adastate_core.transfer import sent
from ..devices import private_rng
from ..model.attention_override import conditionings_of
from ..model.binding import BoundModel
from ..model.blocks import block_patches, require_tracks
from ..model.keys import FIRST_LAYER, KEY, LAYOUTS, ROLES, SHAPES, STEPS, VIEW
from ..model.kv_pool_patcher import pool_patcher_of
from ..model.layout_check import LayoutProbe, check_layout
from ..model.option_key import options_key
from ..model.placing import PlacedLayouts
from ..model.rehearsal import (
    CommitProbe,
    block_functions,
    guidance_functions,
    rehearse_blocks,
    rehearse_guidance,
    zeros_forward,
)
from ..model.torch_compile import is_compiled
from ..progress import SamplingProgress
from ..sockets.conditioning import bring, restore
from .packing import BlockPacking
from .sampler_copy import copy_sampler, schedule_for
from .sound_schedule import OwnSoundSchedule, begins_anew
from .sound_steps import MeanSlope, has_slope, is_euler, one_schedule
from .text_guider import NamedConditionings, TextGuider

OnOpen = Callable[[Any, Tensor, dict[str, Any], torch.device], None]
"""What is done with an open sampling run: its guider, sigmas, model options and device."""


@dataclass(frozen=True, slots=True, repr=False)
class ComfyHost:
    """One model for one step.

    Args:
        bound: A MODEL that went through Apply AdaState.
        sampler: The artist's SAMPLER.
        sigmas: The artist's SIGMAS, ending at 0.
        cfg: Guidance scale.
        blank: A block without anything in it; the host plans memory by its size.
        progress: Where steps are reported.
        first_layer: Number of its first layer, where several models share a KV cache.
        identity: What identifies the model with all that is on it; empty if that is not known.
    """

    bound: BoundModel
    sampler: comfy.samplers.Sampler
    sigmas: Tensor
    cfg: float
    blank: LatentBlock
    progress: SamplingProgress
    first_layer: int = 0
    identity: str = ""

    def run(self, conditions: Conditions, body: Callable[[ComfySession], object]) -> None:
        """Open a sampling session under these conditionings and call `body` in it."""
        frames = self.blank.video.shape[2]
        positive, negative = conditions.positive, conditions.negative
        named = {
            "positive": (self._name(positive), restore(positive, frames)),
            "negative": (self._name(negative), restore(negative, frames) if negative else []),
        }

        def opened(
            guider: Any, sigmas: Tensor, options: dict[str, Any], device: torch.device
        ) -> None:
            session = ComfySession(self, guider, sigmas, options, device, tuple(named))
            session.check_layout()
            session.rehearse()
            body(session)

        self.sample(named, opened)

    def sample(self, named: NamedConditionings, opened: OnOpen) -> None:
        """Open the host's sampling, and hand over what belongs to it.

        Args:
            named: The conditionings, one of them `positive`.
            opened: Is given the guider, the sigmas, the options and the device.
        """
        blank = self.packing.nested(self.blank.map(lambda x: torch.zeros(x.shape)))
        guider = TextGuider(self.bound.model, self.bound.traits, self.bound.binding.texts)
        guider.set_named(named)
        guider.set_cfg(self.cfg)
        guider.model_options = self._options()
        guider.sample(
            blank,
            blank,
            _SessionSampler(opened),
            self.sigmas.clone(),
            disable_pbar=True,
            seed=0,
        )

    @property
    def packing(self) -> BlockPacking:
        """Return how blocks are packed for the host."""
        sampling = self.bound.model.get_model_object("model_sampling")
        return BlockPacking.of(self.bound.traits.sound, sampling)

    @property
    def geometry(self) -> AttentionGeometry:
        """Return how the model numbers the tokens of a block."""
        size = self.blank.video.shape[3:]
        return self.bound.traits.geometry(*size, sound=self.blank.sound is not None)

    def _name(self, prompt: Conditioning | None) -> str:
        """Return what stands for a prompt, as the model is now."""
        if not self.identity or prompt is None:
            return ""
        return f"{self.identity} {self.bound.model.load_device} {prompt.digest}"

    def _options(self) -> dict[str, Any]:
        """Return the model's options for one session, in which the pool is loaded too."""
        options: dict[str, Any]
        options = comfy.model_patcher.create_model_options_clone(self.bound.model.model_options)
        prepare = pool_patcher_of(self.bound.model).loading_with_model()
        kind = WrappersMP.PREPARE_SAMPLING
        add_wrapper_with_key(kind, KEY, prepare, options, is_model_options=True)
        return options


class _SessionSampler(comfy.samplers.Sampler):
    """A SAMPLER that hands over the sampling run in which it is called."""

    def __init__(self, opened: OnOpen) -> None:
        self._opened = opened

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        model_wrap.keep_texts()
        self._opened(model_wrap, sigmas, extra_args["model_options"], noise.device)
        # The core has recorded the chunks; what the host makes of this return value is unused.
        return noise


class ComfySession:
    """An open sampling session: the host's model and the artist's sampler."""

    def __init__(
        self,
        host: ComfyHost,
        guider: Any,
        sigmas: Tensor,
        model_options: dict[str, Any],
        device: torch.device,
        names: tuple[str, ...],
    ) -> None:
        self._host, self._guider, self._sigmas = host, guider, sigmas
        self._schedule = sigmas.cpu()
        self._model_options, self._device = model_options, device
        self._packing, self._mean_slope = host.packing, MeanSlope()
        self._placed = PlacedLayouts()
        self._conditionings: list[Any] = [guider.conds.get(name) or [] for name in names]
        for entries in self._conditionings:
            bring(entries, device)
        self._roles = {
            entry["uuid"]: index
            for index, conditioning in enumerate(self._conditionings)
            for entry in conditioning
        }

    def denoise(self, noise: BlockNoise, view: BlockAttention) -> LatentBlock:
        """Sample one block with the artist's SAMPLER."""
        return self.sample(noise, view, self._schedule)

    def sample(
        self,
        noise: BlockNoise,
        view: BlockAttention,
        sigmas: Tensor,
        block: LatentBlock | None = None,
        first_step: int = 0,
        onto: LatentBlock | None = None,
    ) -> LatentBlock:
        """Run the artist's SAMPLER over the schedule or a stretch of it.

        Args:
            noise: Noise of the block.
            view: The block with the cache in view.
            sigmas: Noise levels of the stretch, on the processor.
            block: What the stretch before has left; None for the first one.
            first_step: Steps made before.
            onto: Clean latents that the noise is put on, as far as the first level says; None for
                noise alone.
        """
        drawn, packing = noise.initial(), self._packing
        start = sent(packing.pack_noise(drawn), self._device)
        # A sampler may write to what it is given, as uni_pc does: all of it is its own.
        sampler = copy_sampler(
            self._host.sampler, lambda *sigmas: packing.pack_noise(noise.renoise(start))
        )
        seed, blank = noise.sampler_seed(first_step), torch.zeros_like(start)
        if onto is not None:
            blank = sent(packing.pack(onto), self._device, copy=True)

        def report(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
            # A card is still busy with this step; a sampler that renoises does so at every one.
            if self._device.type != "cpu" and step + 1 < total and noise.renoised >= step:
                noise.draw_ahead(start)
            self._host.progress.step(first_step + step, packing.unpack(denoised, drawn).video)

        # Samplers that draw on their own use the global generators: seed a fork of them.
        with private_rng(self._device, seed):
            sampled: Tensor = sampler.sample(
                self._guider_of(drawn),
                schedule_for(sampler, sigmas, self._device),
                self._sampling_arguments(view, seed, drawn),
                report,
                start if block is None else torch.zeros_like(start),
                blank if block is None else packing.pack(block),
                None,
                True,
            )
        return packing.unpack(sampled, drawn)

    def commit(self, block: LatentBlock, view: BlockAttention) -> None:
        """Forward a clean block at sigma 0, once under each of its conditionings."""
        self.forward_clean(block, view)
        self._host.progress.commit()

    def commit_noised(self, block: LatentBlock, view: BlockAttention, noise: CommitNoise) -> None:
        """Forward a block of little noise, once under each of its conditionings."""
        self.forward_clean(block, view, noise)
        self._host.progress.commit()

    def prefill(self, block: LatentBlock, view: BlockAttention, noise: CommitNoise) -> None:
        """Forward the text that comes with a block, once under each of its conditionings."""
        self.forward_clean(block, view, noise)

    def forward_clean(
        self, block: LatentBlock, view: BlockAttention, noise: CommitNoise | None = None
    ) -> None:
        """Do as `commit` does, unreported.

        Guidance takes no part: the cache holds what the model itself makes of a chunk.
        Conditionings are forwarded one by one, so that what one of them leaves does not depend on
        the other.
        """
        options = self._arguments(view, 0, block)["model_options"]
        packing = self._packing if noise is None else self._packing.one_schedule
        x = sent(packing.pack(block), self._device, copy=True)
        # Models that are told where a step ends look this one up: it ends where it begins.
        # As long as in a step, since compiled models may be compiled anew for another length.
        still = {"sample_sigmas": torch.zeros_like(self._sigmas)}
        options["transformer_options"].update(still)
        options["transformer_options"].get("wrappers", {}).pop("calc_cond_batch", None)
        sigma = self._sigmas.new_zeros(x.shape[0])
        if noise is not None:
            sigma = self._sigmas.new_full((x.shape[0],), noise.sigma)
            x = self._with_noise(x, noise, sigma)
            options["transformer_options"].update(
                one_schedule(self._guider.inner_model.diffusion_model, options)
            )
        for index in view.conditionings:
            given = [self._conditionings[index]]
            comfy.samplers.calc_cond_batch(self._guider.inner_model, given, x, sigma, options)

    def _with_noise(self, x: Tensor, noise: CommitNoise, sigma: Tensor) -> Tensor:
        drawn = sent(self._packing.pack_noise(noise.noise), self._device, copy=True).to(x.dtype)
        sampling = self._guider.inner_model.model_sampling
        noised: Tensor = sampling.noise_scaling(sigma, drawn, x)
        return noised

    def rehearse(self) -> None:
        """Refuse what is attached to the MODEL and cannot be streamed, once for each set of it."""
        model, binding = self._host.bound.model, self._host.bound.binding
        guides = guidance_functions(model)
        functions = [] if is_compiled(model) else block_functions(model)
        if not guides and not functions:
            return
        attached = [str(binding.numbers.number(f)) for f in (*guides, *functions)]
        key = " ".join([options_key(model, KEY, binding.numbers), *attached, str(self._sigmas)])
        if key in binding.rehearsed:
            return
        with private_rng(self._device):  # guidance may draw
            self._rehearse(guides, functions)
        binding.rehearsed.add(key)

    def _rehearse(
        self, guides: list[Callable[..., Any]], functions: list[Callable[..., Any]]
    ) -> None:
        host = self._host
        geometry, blank, probe = host.geometry, host.blank, self._commit_probe
        if guides:
            options = self._arguments(probe(), 0, blank)
            wrappers = {"apply_model": {KEY: [zeros_forward(self._check_forward)]}}
            options["model_options"]["transformer_options"]["wrappers"] = wrappers

            def guide(sigma: Tensor) -> None:
                x = self._packing.pack(blank).to(self._device)
                self._guider(x, sigma.repeat(len(x)), **options)

            rehearse_guidance(guide, self._sigmas, guides)
        if functions:
            rehearse_blocks(
                lambda probe: self.forward_clean(blank, probe),
                probe(),
                range(host.first_layer, host.first_layer + geometry.layers),
                functions,
            )

    def _check_forward(self, options: dict[str, Any]) -> None:
        """Refuse a forward that guidance asks for and that no view can serve."""
        conditionings_of(options)
        require_tracks(options)
        if is_compiled(self._host.bound.model) and block_patches(options):
            raise LayoutError(
                "forward of the compiled model",
                problem="a compiled model cannot run with other blocks than it was compiled with",
                seen="other blocks than it was compiled with",
                expected="the same blocks in every forward",
                remedy="remove the TorchCompileModel node",
            )

    def _commit_probe(self) -> CommitProbe:
        blank = self._host.blank
        ticks = 0 if blank.sound is None else blank.sound.shape[2]
        return CommitProbe(self._host.geometry, blank.video.shape[2], ticks)

    def check_layout(self) -> None:
        """Compare the model with its descriptor, once for every MODEL and way to run it."""
        bound, blank = self._host.bound, self._host.blank
        checked = bound.binding.layout_checked
        way = (bound.traits.clock, blank.sound is not None)
        if way not in checked:
            spatial, family = bound.policy.averages == "picture", bound.traits.family
            check_layout(self._probe, self._host.geometry, blank, family, spatial)
            checked.add(way)

    def _probe(self, block: LatentBlock, probe: LayoutProbe) -> None:
        arguments = self._arguments(probe, 0, block)
        x = self._packing.pack(block)
        # Other packs' wrappers have nothing to do with this forward.
        own = arguments["model_options"]["transformer_options"]
        own["wrappers"] = {
            kind: {KEY: named[KEY]} for kind, named in own["wrappers"].items() if KEY in named
        }
        self._guider(x.to(self._device), self._sigmas[:1].expand(x.shape[0]), **arguments)

    def _guider_of(self, block: LatentBlock) -> Any:
        own = block.sound is not None and begins_anew(self._host.sampler)
        if own and has_slope(self._guider.inner_model.diffusion_model):
            return OwnSoundSchedule(self._guider, self._packing, block)
        return self._guider

    def _sampling_arguments(
        self, view: BlockAttention, seed: int, block: LatentBlock
    ) -> dict[str, Any]:
        arguments = self._arguments(view, seed, block)
        dit = self._guider.inner_model.diffusion_model
        if block.sound is not None and has_slope(dit) and is_euler(self._host.sampler):
            arguments["model_options"]["transformer_options"][STEPS] = self._mean_slope
        return arguments

    def _arguments(self, view: BlockAttention, seed: int, block: LatentBlock) -> dict[str, Any]:
        options = comfy.model_patcher.create_model_options_clone(self._model_options)
        if self._host.bound.traits.sound is not None:
            options["transformer_options"][SHAPES] = self._packing.shapes(block)
        options["transformer_options"][VIEW] = view
        options["transformer_options"][LAYOUTS] = self._placed
        options["transformer_options"][FIRST_LAYER] = self._host.first_layer
        options["transformer_options"][ROLES] = self._roles
        return {"model_options": options, "seed": seed}
