"""Streams of files as they ship, made by the pack's own nodes as ComfyUI's executor calls them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tools.inprocess import Pack, open_comfyui
from training.export import DIT_FILE, TEXT_FILE, VAE_FILE
from training.measure.streams import Row
from training.panorama.journey import HEIGHT, WIDTH
from training.panorama.prompts import Prompt
from training.settings import ASSETS


class NodeStreams:
    """Load Demo Models, Apply AdaState, New Stream and Stream Chunks, one stream after another.

    The nodes make one prompt at a time, so nothing is batched here.
    """

    batch = 1

    def __init__(self, row: Row, steps: int, cfg: float) -> None:
        self.row, self.steps, self.cfg = row, steps, cfg
        told = hashlib.sha256(f"nodes {row.anchor} {steps} {cfg}".encode())
        for name in (DIT_FILE, TEXT_FILE, VAE_FILE):
            told.update((ASSETS / name).read_bytes())
        self.digest = told.hexdigest()[:16]
        self.loaded: tuple[Pack, Any, Any] | None = None

    def _open(self) -> tuple[Pack, Any, Any]:
        """Load the models once, and only in the process that streams."""
        if self.loaded is None:
            open_comfyui()
            pack = Pack()
            model, clip, _ = pack.run("AdaStateLoadDemo")
            (applied,) = pack.run(
                "AdaStateApply",
                model=model,
                anchor=self.row.anchor,
                chunk_frames=3,
                window_frames=3,
                state_frames=1,
                anchor_frames=3,
            )
            self.loaded = pack, applied, clip
        return self.loaded

    def __getstate__(self) -> dict[str, object]:
        """Travel to another process without the models."""
        return self.__dict__ | {"loaded": None}

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int], chunks: int) -> Tensor:
        """Make streams ``(N, 16, 3 chunks, 14, 24)`` in the scale that the DiT sees."""
        pairs = zip(prompts, seeds, strict=True)
        return torch.cat([self._stream(prompt, seed, chunks) for prompt, seed in pairs])

    def _stream(self, prompt: Prompt, seed: int, chunks: int) -> Tensor:
        pack, model, clip = self._open()
        import comfy.samplers

        empty = {"samples": torch.zeros((1, 16, 1, HEIGHT // 8, WIDTH // 8))}
        (state,) = pack.run("AdaStateNewStream", latent=empty, history_chunks=0)
        with torch.inference_mode():
            positive, negative = (
                clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt.text, "")
            )
        sampling = model.get_model_object("model_sampling")
        _, latent = pack.run(
            "AdaStateStream",
            model=model,
            state=state,
            positive=positive,
            negative=negative,
            cfg=self.cfg,
            sampler=comfy.samplers.sampler_object("euler"),
            sigmas=comfy.samplers.calculate_sigmas(sampling, "simple", self.steps),
            seed=seed,
            chunks=chunks,
        )
        normalised: Tensor = model.get_model_object("latent_format").process_in(latent["samples"])
        return normalised.float()
