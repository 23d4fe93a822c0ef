"""A stream through the pack's real nodes, and bare forwards that do the same work without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from benchmarks.harness import pack
from benchmarks.models import Subject

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

CHUNK, WINDOW, STATE = 3, 3, 1
"""Latent frames of a chunk, of the window, and of the hidden state."""
WARM_UP = 2
"""Chunks until the window is full: the first sees nothing, the second is the first to commit."""
SIZES = {"anchor": "adaptive", "chunk_frames": CHUNK, "window_frames": WINDOW}
SIZES |= {"state_frames": STATE, "anchor_frames": CHUNK}
"""What Apply AdaState is asked for; a preset overrides all of it."""


class Stream:
    """A stream of one model through Apply AdaState, New Stream and Stream Chunks.

    Args:
        subject: What is streamed.
        model: The MODEL, as a loader returns it.
        sigmas: Noise levels of a chunk.
        sampler: Name of the sampler.
        apply: More inputs of Apply AdaState, such as `preset`.
        history_chunks: Chunks that the state remembers, 0 for all.
    """

    def __init__(
        self,
        subject: Subject,
        model: ModelPatcher,
        sigmas: Sequence[float],
        *,
        sampler: str = "euler",
        apply: Mapping[str, Any] | None = None,
        history_chunks: int = 2,
    ) -> None:
        sizes = SIZES | {"chunk_frames": subject.chunk, "window_frames": subject.chunk}
        (self._model,) = pack().run("AdaStateApply", model=model, **sizes, **(apply or {}))
        self._model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "bench", self._count)
        self.forwards = 0
        """Forwards of the model so far."""
        self.binding: Any = pack().part("adastate_comfy.model.binding").bound_model(self._model)
        """What the pack keeps of the model: its traits, and the pool of keys and values."""
        empty: Any = torch.zeros(subject.latent_shape(1))
        if subject.sound is not None:
            empty = NestedTensor((empty, torch.zeros(subject.sound(1))))
        self._new = {"latent": {"samples": empty}, "history_chunks": history_chunks}
        self._inputs = {
            "model": self._model,
            "positive": [list(subject.conditioning())],
            "cfg": 1.0,
            "sampler": comfy.samplers.sampler_object(sampler),
            "sigmas": torch.tensor(sigmas),
        }
        self._seed = -1
        self.restart()

    @property
    def newest(self) -> Tensor:
        """The latents of the newest chunk, in model space."""
        content: Tensor = self._state.newest_content()
        return content

    @property
    def kept_bytes(self) -> int:
        """Bytes of the keys and values of the past."""
        *_, newest = self.binding.pool.sets.values()
        return int(newest.nbytes)

    def restart(self) -> None:
        """Begin again, with another seed: the pack would know chunks that it has made before."""
        self._seed += 1
        (self._state,) = pack().run("AdaStateNewStream", **self._new)

    def follow(self, other: Stream) -> None:
        """Go on from where another stream is, under its seed."""
        self._state, self._seed = other._state, other._seed

    def advance(self, chunks: int = 1) -> None:
        """Make the next chunks."""
        inputs = {"state": self._state, "seed": self._seed, "chunks": chunks, **self._inputs}
        self._state, _ = pack().run("AdaStateStream", **inputs)

    def _count(self, executor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.forwards += 1
        return executor(*args, **kwargs)


class BareForwards:
    """Forwards of the host's model as its sampling does them, one for every forward of a chunk.

    Every attention that sees the past in a stream sees as many keys here, but they lie ready in
    memory, at no cost but their number. Text that takes part in it stays part of it: keys grow by
    the same number with and without it.

    Args:
        subject: What the model is.
        model: The MODEL, as a loader returns it.
        sigmas: Noise levels of a chunk; the last one, 0, stands for its commit.
        traits: What the pack knows of it.
    """

    def __init__(
        self, subject: Subject, model: ModelPatcher, sigmas: Sequence[float], traits: Any
    ) -> None:
        comfy.model_management.load_models_gpu([model])
        self._model, device = model.model, model.load_device
        self._sigmas = torch.tensor(sigmas).to(device)
        with_sound, size = subject.sound is not None, subject.chunk
        self._geometry = traits.geometry(*subject.size, sound=with_sound)
        self._past = {"video": (STATE + size) * subject.tokens_per_frame, "text": 0}
        shapes: list[tuple[int, ...]] = [subject.latent_shape(STATE + size)]
        if subject.sound is not None:
            ticks = traits.clock.ticks_of(2 * size, size)
            self._past["sound"] = ticks * traits.sound.tokens
            shapes.append(subject.sound(ticks))
        source = torch.Generator().manual_seed(2)
        tracks = [torch.randn(shape, generator=source).to(device) for shape in shapes]
        extras: dict[str, Any]
        self._x: Tensor = tracks[0]
        if with_sound:
            self._x, shapes = comfy.utils.pack_latents(tracks)
        text, extras = subject.conditioning()
        text, extras = text.to(device), {name: x.to(device) for name, x in extras.items()}
        if with_sound:
            extras["latent_shapes"] = shapes
        conds = self._model.extra_conds(
            cross_attn=text, noise=self._x, device=self._x.device, latent_image=self._x, **extras
        )
        self._conds = {n: c.process_cond(batch_size=1, area=None).cond for n, c in conds.items()}
        self._ready: dict[Any, tuple[Tensor, Tensor]] = {}
        self._counter: Any = None
        self._served = 0

    def __call__(self) -> None:
        """Run the forwards of one chunk.

        Raises:
            RuntimeError: If not every layer attended to the keys that lie ready.
        """
        calls, layers = self._geometry.calls, pack().part("adastate_core.attention.layers")
        expected = self._geometry.layers * len(calls.tracked) * len(self._sigmas)
        self._served = 0
        options: dict[str, Any] = {"cond_or_uncond": [0]}
        options["optimized_attention_override"] = self._attend
        with torch.inference_mode():
            for sigma in self._sigmas:
                options["sigmas"] = sigma[None]
                self._counter = layers.LayerCounter(calls)
                self._model.apply_model(
                    self._x, sigma[None], transformer_options=dict(options), **self._conds
                )
        if self._served != expected:
            raise RuntimeError(
                f"{self._served} attention calls in place of {expected}: no fair measure"
            )

    def _attend(
        self, func: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *args: Any, **named: Any
    ) -> Tensor:
        """Call the attention function, as ComfyUI lets an override do."""
        options = named.get("transformer_options") or {}
        block = (
            (options.get("block_type"), options["block_index"])
            if "block_index" in options
            else None
        )
        place = self._counter.place(block)
        if place is not None:
            axis, key = 2 if named.get("skip_reshape") else 1, (k.shape, place.call)
            if key not in self._ready:
                shape = list(k.shape)
                shape[axis] += sum(self._past[track] for track in place.call.keys)
                source = torch.Generator().manual_seed(3)
                keys, values = (torch.randn(shape, generator=source).to(k) for _ in range(2))
                self._ready[key] = keys, values
            k, v = self._ready[key]
            self._served += 1
        return func(q, k, v, *args, **named)
