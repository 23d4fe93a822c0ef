"""Makes videos with the shipped models through the pack's own nodes, for evaluation.

The nodes run in this process, one after the other, exactly as ComfyUI's executor calls them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.inprocess import Pack, open_comfyui
from training.prompts import Prompt
from training.rollout import Row
from training.world import HEIGHT, WIDTH

Array = NDArray[np.float32]
ANCHORS: dict[Row, str] = {
    "adaptive": "adaptive",
    "held": "adaptive",
    "frozen": "frozen",
    "none": "none",
}


class NodeGenerator:
    """Streams any row through Load Demo Models, Apply AdaState, New Stream and Stream Chunks."""

    def __init__(self, steps: int, cfg: float) -> None:
        self.cfg = cfg
        open_comfyui()
        import comfy.samplers

        self.pack = Pack()
        self.model, self.clip, self.vae = self.pack.run("AdaStateLoadDemo")
        sampling = self.model.get_model_object("model_sampling")
        self.sampler = comfy.samplers.sampler_object("euler")
        self.sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", steps)

    def __call__(self, row: Row, prompt: Prompt, seed: int, chunks: int) -> Array:
        """Return the frames of one stream, ``(T, H, W, 3)`` in [0, 1]."""
        import torch

        (model,) = self.pack.run(
            "AdaStateApply",
            model=self.model,
            anchor=ANCHORS[row],
            chunk_frames=3,
            window_frames=3,
            state_frames=1,
            anchor_frames=3,
        )
        empty = {"samples": torch.zeros((1, 16, 1, HEIGHT // 8, WIDTH // 8))}
        (state,) = self.pack.run("AdaStateNewStream", latent=empty, history_chunks=0)
        if row == "held":
            (state,) = self.pack.run("AdaStateHold", state=state, chunks=-1)
        with torch.inference_mode():
            prompts = [
                self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))
                for text in (prompt.text, "")
            ]
        _, latent = self._stream(model, state, prompts, seed, chunks)
        with torch.inference_mode():
            frames = self.vae.decode(latent["samples"])[0]
        decoded: Array = frames.float().clamp(0.0, 1.0).numpy()
        return decoded

    def _stream(self, model: Any, state: Any, prompts: Any, seed: int, chunks: int) -> Any:
        return self.pack.run(
            "AdaStateStream",
            model=model,
            state=state,
            positive=prompts[0],
            negative=prompts[1],
            cfg=self.cfg,
            sampler=self.sampler,
            sigmas=self.sigmas,
            seed=seed,
            chunks=chunks,
        )
