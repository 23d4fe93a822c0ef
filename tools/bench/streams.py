"""A stream through the pack's real nodes, and bare forwards that do the same work without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from tools.bench.ready import ReadyKeys
from tools.bench.subject import Subject
from tools.inprocess import Pack

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

CHUNK, WINDOW, STATE = 3, 3, 1
BLOCK = STATE + CHUNK
CONTEXT = STATE + WINDOW
"""Latent frames that a chunk sees besides its own, once the window is full: from chunk 2 on."""

# What Apply asks for; a preset overrides all of it.
SIZES = {
    "anchor": "adaptive", "chunk_frames": CHUNK, "window_frames": WINDOW, "state_frames": STATE,
    "anchor_frames": CHUNK,
}  # fmt: skip


class Stream:
    """Stream one model through Apply AdaState, New Stream and Stream Chunks.

    Args:
        pack: The nodes.
        subject: What is streamed.
        model: The MODEL, as a loader returns it.
        sigmas: Noise levels of a chunk.
        sampler: Name of the sampler.
        apply: More inputs of Apply AdaState, such as `preset`.
        history_chunks: Chunks that the state remembers, 0 for all.
    """

    def __init__(
        self,
        pack: Pack,
        subject: Subject,
        model: ModelPatcher,
        sigmas: Tensor,
        *,
        sampler: str = "euler",
        apply: Mapping[str, Any] | None = None,
        history_chunks: int = 2,
    ) -> None:
        self._pack, self._subject, self._history = pack, subject, history_chunks
        (self._model,) = pack.run("AdaStateApply", model=model, **SIZES, **(apply or {}))
        self.forwards = 0
        """Forwards of the model so far."""
        self._model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "bench", self._count)
        self._settings: dict[str, Any] = {
            "model": self._model, "positive": [list(subject.conditioning())], "cfg": 1.0,
            "sampler": comfy.samplers.sampler_object(sampler), "sigmas": sigmas,
        }  # fmt: skip
        self._seed = -1
        self.restart()

    @property
    def newest(self) -> Tensor:
        """Return the latents of the newest chunk, in model space."""
        content: Tensor = self._state.newest_content()
        return content

    @property
    def kept_bytes(self) -> int:
        """Count the bytes of the keys and values of the past."""
        binding = self._pack.part("adastate_comfy.model.bridge").binding_of(self._model)
        *_, newest = binding.pool.sets.values()
        return int(newest.nbytes)

    @property
    def layers(self) -> int:
        """Count the layers with self-attention, as the pack describes the model."""
        binding = self._pack.part("adastate_comfy.model.bridge").binding_of(self._model)
        return int(binding.traits.layers)

    def forget(self) -> None:
        """Drop the keys and values of the past, as the host does when it is short of memory."""
        self._pack.part("adastate_comfy.model.bridge").binding_of(self._model).pool.clear()

    def _count(self, executor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.forwards += 1
        return executor(*args, **kwargs)

    def restart(self) -> None:
        """Begin again, with another seed: the pack would know chunks that it has made before."""
        self._seed += 1
        empty = {"samples": torch.zeros(self._subject.latent_shape(1))}
        (self._state,) = self._pack.run(
            "AdaStateNewStream", latent=empty, history_chunks=self._history
        )

    def follow(self, other: Stream) -> None:
        """Go on from where another stream is, under its seed."""
        self._state, self._seed = other._state, other._seed

    def advance(self, chunks: int = 1) -> None:
        """Make the next chunks."""
        self._state, _ = self._pack.run(
            "AdaStateStream", state=self._state, seed=self._seed, chunks=chunks, **self._settings
        )


class BareForwards:
    """Forward the host's model as its sampling does, once for every forward of a chunk.

    Args:
        subject: What the model is.
        model: The MODEL, as a loader returns it.
        sigmas: Noise levels of a chunk; the last one, 0, stands for its commit.
        layers: Layers with self-attention.
    """

    def __init__(self, subject: Subject, model: ModelPatcher, sigmas: Tensor, layers: int) -> None:
        comfy.model_management.load_models_gpu([model])
        self._model, self._sigmas, self._layers = model.model, sigmas, layers
        source = torch.Generator().manual_seed(2)
        self._x = torch.randn(subject.latent_shape(BLOCK), generator=source)
        text, extras = subject.conditioning()
        conds = self._model.extra_conds(
            cross_attn=text, noise=self._x, device=self._x.device, latent_image=self._x, **extras
        )
        self._conds = {n: c.process_cond(batch_size=1, area=None).cond for n, c in conds.items()}
        frame = subject.tokens_per_frame
        self._ready = ReadyKeys(BLOCK * frame, CONTEXT * frame)

    def __call__(self) -> None:
        """Run the forwards of one chunk.

        Raises:
            RuntimeError: If not every layer attended to the keys that lie ready.
        """
        before = self._ready.served
        with torch.inference_mode():
            for sigma in self._sigmas:
                options = {
                    "cond_or_uncond": [0], "sigmas": sigma[None],
                    "optimized_attention_override": self._ready,
                }  # fmt: skip
                self._model.apply_model(
                    self._x, sigma[None], transformer_options=options, **self._conds
                )
        served, expected = self._ready.served - before, self._layers * len(self._sigmas)
        if served != expected:
            raise RuntimeError(f"{served} self-attentions in place of {expected}: no fair measure")
