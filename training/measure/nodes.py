"""Streams of files as they ship, or as a run exports them, made by the pack's own nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tools.inprocess import Pack, open_comfyui
from training.measure.models import files_of, open_models
from training.measure.streams import Row
from training.panorama.journey import HEIGHT, WIDTH
from training.panorama.prompts import Prompt


class NodeStreams:
    """Models, Apply AdaState, New Stream and Stream Chunks, one stream after another.

    The nodes make one prompt at a time, so nothing is batched here.

    Args:
        row: The anchor; without weights, the shipped models are streamed.
        steps: Of a chunk.
        cfg: Guidance.
        basis: The file of the rotation with which a run was exported: its streams are turned back
            to the latents of training, which one reader reads.
    """

    batch = 1

    def __init__(self, row: Row, steps: int, cfg: float, basis: Path | None = None) -> None:
        self.row, self.steps, self.cfg, self.basis = row, steps, cfg, basis
        told = hashlib.sha256(f"nodes {row.anchor} {steps} {cfg}".encode())
        for file in [*files_of(row.weights, row.adapter), *([basis] if basis is not None else [])]:
            told.update(file.read_bytes())
        self.digest = told.hexdigest()[:16]
        self.loaded: tuple[Pack, Any, Any] | None = None

    def _open(self) -> tuple[Pack, Any, Any]:
        """Load the models once, and only in the process that streams."""
        if self.loaded is None:
            open_comfyui()
            self.loaded = self._open_with(Pack())
        return self.loaded

    def _open_with(self, pack: Pack) -> tuple[Pack, Any, Any]:
        model, clip, _ = open_models(pack, self.row.weights, self.row.adapter)
        (applied,) = pack.run(
            "AdaStateApply",
            model=model,
            anchor=self.row.anchor,
            chunk_frames=3,
            window_frames=3,
            state_frames=1,
            anchor_frames=3,
        )
        return pack, applied, clip

    def __getstate__(self) -> dict[str, object]:
        """Travel to another process without the models."""
        return self.__dict__ | {"loaded": None}

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int], chunks: int) -> Tensor:
        """Make streams ``(N, 16, 3 chunks, 14, 24)`` in the scale that the DiT sees."""
        pairs = zip(prompts, seeds, strict=True)
        streams = torch.cat([self._stream(prompt, seed, chunks) for prompt, seed in pairs])
        if self.basis is None:
            return streams
        return torch.einsum("ij,bithw->bjthw", load_file(self.basis)["rotation"], streams)

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
