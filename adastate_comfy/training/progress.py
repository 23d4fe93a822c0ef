"""A training run on ComfyUI's progress bar: steps, loss and its curve, and words under the node."""

from __future__ import annotations

import time
from collections.abc import Sequence

import comfy.model_management
import comfy.utils
from torch import Tensor

from ...adastate_core.metrics.chart import draw_losses
from ..panel.words import duration
from ..progress import write_under

_EVERY = 1.0
"""Seconds between two curves."""


class TrainingProgress:
    """A running training on the page.

    Args:
        node: Id of the node, or None.
        steps: Steps in all.
        done: Steps of an earlier part of the run.
    """

    def __init__(self, node: str | None, steps: int, done: int) -> None:
        self._node, self._steps, self._begun = node, steps, done
        self._bar = comfy.utils.ProgressBar(steps)
        self._start, self._drawn = time.monotonic(), 0.0

    def step(self, step: int, denoised: Tensor) -> None:
        """Note a sampler step of the model's own past; raises the host's interruption."""
        comfy.model_management.throw_exception_if_processing_interrupted()

    def commit(self) -> None:
        """Note a commit pass; raises the host's interruption."""
        comfy.model_management.throw_exception_if_processing_interrupted()

    def learned(self, losses: Sequence[float], *, own_past: bool) -> None:
        """Show a finished step; raises the host's interruption.

        Args:
            losses: The losses so far.
            own_past: Whether the model made the past.
        """
        done, now = len(losses), time.monotonic()
        preview = None
        if now - self._drawn >= _EVERY or done == self._steps:
            self._drawn = now
            preview = ("JPEG", draw_losses(losses), 512)
        self._bar.update_absolute(done, self._steps, preview)
        recent = losses[-20:]
        left = (now - self._start) / (done - self._begun) * (self._steps - done)
        past = "own past" if own_past else "past of the clips"
        average = sum(recent) / len(recent)
        self.say(f"step {done} of {self._steps}, loss {average:.4f}, {past}, {duration(left)} left")
        comfy.model_management.throw_exception_if_processing_interrupted()

    def say(self, text: str) -> None:
        """Write under the node."""
        write_under(self._node, text)
