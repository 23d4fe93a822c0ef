"""Show a running stream: steps, chunks, and a preview of the newest content frame."""

from __future__ import annotations

import logging

import comfy.model_management
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from PIL import Image
from server import PromptServer
from torch import Tensor


class StreamProgress:
    """A running stream on ComfyUI's progress bar and previewer.

    Args:
        model: The MODEL; decides the preview method.
        chunks: Chunks of this step.
        steps: Sampler steps of a chunk.
        first_chunk: Absolute index of the first chunk.
        node_id: Node to write the chunk count under, or None.
        note: What every line under the node is to end with.
    """

    def __init__(
        self,
        model: ModelPatcher,
        *,
        chunks: int,
        steps: int,
        first_chunk: int,
        node_id: str | None,
        note: str = "",
    ) -> None:
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self._chunks, self._steps = chunks, steps
        self._first, self._done = first_chunk, 0
        self._node_id, self._note = node_id, note
        self._commits = self._planned = 0
        self._images: Tensor | None = None
        self._bar = comfy.utils.ProgressBar(chunks * steps)

    def step(self, step: int, denoised: Tensor) -> None:
        """Show one sampler step; raises the host's interruption if the user cancelled."""
        step = min(step + 1, self._steps)
        position = self._done * self._steps + step
        preview = self._preview(step, denoised)
        self._bar.update_absolute(position, self._chunks * self._steps, preview)
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
        """Note a finished chunk."""
        self._done += 1
        self._planned = 0
        self._bar.update_absolute(self._done * self._steps, self._chunks * self._steps)
        self.say(f"chunk {self._first + self._done - 1} ({self._done} of {self._chunks})")

    def show(self, images: Tensor) -> None:
        """Preview images, (frames, H, W, 3), over the steps of the next chunk."""
        self._images = images
        self._bar.update_absolute(
            self._done * self._steps, self._chunks * self._steps, _preview_of(images[0])
        )

    def say(self, text: str) -> None:
        """Write under the node."""
        write_under(self._node_id, f"{text}; {self._note}" if self._note else text)

    def _preview(self, step: int, denoised: Tensor) -> tuple[str, Image.Image, int] | None:
        """Play what was decoded last; without that, draw the newest content from its latents."""
        if self._images is not None:
            newest = len(self._images) - 1
            return _preview_of(self._images[newest * step // self._steps])
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


def _preview_of(image: Tensor) -> tuple[str, Image.Image, int]:
    drawn = Image.fromarray(pixels_of(image).numpy())
    return "JPEG", drawn, latent_preview.MAX_PREVIEW_RESOLUTION
