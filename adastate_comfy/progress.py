"""Show a running stream: steps and chunks on ComfyUI's bar, words under the node and its panel."""

from __future__ import annotations

import logging
from typing import Protocol

import comfy.model_management
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from PIL import Image
from server import PromptServer
from torch import Tensor

from .panel.stream_view import StreamView


class SamplingProgress(Protocol):
    """Where a session reports what it does."""

    def step(self, step: int, denoised: Tensor) -> None:
        """Note one sampler step; raises the host's interruption."""
        ...

    def commit(self) -> None:
        """Note a commit pass; raises the host's interruption."""
        ...


class StreamProgress:
    """A running stream on ComfyUI's progress bar and previewer.

    Args:
        model: The MODEL; decides the preview method.
        chunks: Chunks of this step.
        steps: Sampler steps of a chunk.
        view: The panel of the node.
        previews: Whether ComfyUI's own previews are sent where the server has them on. A node that
            shows a video in the end must send none: the page takes the last one for the result.
    """

    def __init__(
        self,
        model: ModelPatcher,
        *,
        chunks: int,
        steps: int,
        view: StreamView,
        previews: bool = True,
    ) -> None:
        form = model.get_model_object("latent_format")
        self._previewer = (
            latent_preview.get_previewer(model.load_device, form) if previews else None
        )
        self._chunks, self._steps = chunks, steps
        self._done = 0
        self._view = view
        self._commits = self._planned = 0
        self._bar = comfy.utils.ProgressBar(chunks * steps)

    def step(self, step: int, denoised: Tensor) -> None:
        """Show one sampler step; raises the host's interruption if the user cancelled."""
        step = min(step + 1, self._steps)
        position = self._done * self._steps + step
        self._bar.update_absolute(position, self._chunks * self._steps, self._preview(denoised))
        text = self._view.step(step)
        if text is not None:
            self._write(text)
        comfy.model_management.throw_exception_if_processing_interrupted()

    def replay(self, commits: int) -> None:
        """Say how many chunks have to be read again before the first one is made."""
        self._commits, self._planned = 0, commits
        # One is the normal course; more mean that the KV cache is being rebuilt.
        if commits > 1:
            logging.info("AdaState: rebuilding the memory of %d chunks first.", commits)
            self.say(f"rebuilding the memory: {commits} chunks first, one forward each")

    def commit(self) -> None:
        """Note a commit pass; raises the host's interruption if the user cancelled."""
        self._commits += 1
        if self._planned > 1:
            self.say(f"rebuilding the memory: {self._commits} of {self._planned} chunks")
        comfy.model_management.throw_exception_if_processing_interrupted()

    def chunk(self) -> None:
        """Note a finished chunk; raises the host's interruption if the user cancelled."""
        self._done += 1
        self._planned = 0
        self._bar.update_absolute(self._done * self._steps, self._chunks * self._steps)

    def say(self, text: str) -> None:
        """Write under the node and on its panel."""
        self._view.say(text)
        self._write(text)

    def _write(self, text: str) -> None:
        write_under(self._view.node, self._view.under(text))

    def _preview(self, denoised: Tensor) -> tuple[str, Image.Image, int] | None:
        """Draw the newest content from its latents, if the server has previews on."""
        if self._previewer is None:
            return None
        # The previewer draws the first frame it is given: give it the newest content.
        drawn: tuple[str, Image.Image, int] = self._previewer.decode_latent_to_preview_image(
            "JPEG", denoised[:, :, -1:]
        )
        return drawn


def write_under(node_id: str | None, text: str) -> None:
    """Write a line under a node."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        server.send_progress_text(text, node_id)


def pixels_of(images: Tensor) -> Tensor:
    """Return images, (..., H, W, channels) from 0 to 1, in 8-bit RGB."""
    return images[..., :3].mul(255).round_().clamp_(0, 255).to("cpu", torch.uint8).contiguous()
