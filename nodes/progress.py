"""Show a running stream: steps, chunks, and a preview of the newest content frame."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from server import PromptServer
from torch import Tensor


class StreamProgress:
    """Report to ComfyUI's progress bar and previewer.

    Args:
        model: The MODEL; decides the preview method.
        chunks: Chunks of this step.
        steps: Sampler steps of a chunk.
        first_chunk: Absolute index of the first chunk.
        node_id: Node to write the chunk count under, or None.
    """

    def __init__(
        self,
        model: ModelPatcher,
        *,
        chunks: int,
        steps: int,
        first_chunk: int,
        node_id: str | None,
    ) -> None:
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self._chunks, self._steps = chunks, steps
        self._first, self._done = first_chunk, 0
        self._node_id = node_id
        self._commits = 0
        self._bar = comfy.utils.ProgressBar(chunks * steps)

    def step(self, step: int, denoised: Tensor) -> None:
        """Show one sampler step; raises the host's interruption if the user cancelled."""
        preview: Any = None
        if self._previewer is not None:
            # The previewer draws the first frame it is given: give it the newest content.
            preview = self._previewer.decode_latent_to_preview_image("JPEG", denoised[:, :, -1:])
        position = self._done * self._steps + min(step + 1, self._steps)
        self._bar.update_absolute(position, self._chunks * self._steps, preview)
        comfy.model_management.throw_exception_if_processing_interrupted()

    def commit(self) -> None:
        """Note a commit pass; raises the host's interruption if the user cancelled."""
        self._commits += 1
        if self._commits > 1:
            # One a chunk is the normal course; more mean that the memory is being rebuilt.
            self._say(f"rebuilding the memory: {self._commits} chunks")
        comfy.model_management.throw_exception_if_processing_interrupted()

    def chunk(self) -> None:
        """Note a finished chunk."""
        self._done += 1
        self._commits = 0
        self._bar.update_absolute(self._done * self._steps, self._chunks * self._steps)
        self._say(f"chunk {self._first + self._done - 1} ({self._done} of {self._chunks})")

    def _say(self, text: str) -> None:
        """Write under the node."""
        server = getattr(PromptServer, "instance", None)
        if server is not None and self._node_id is not None:
            server.send_progress_text(text, self._node_id)
