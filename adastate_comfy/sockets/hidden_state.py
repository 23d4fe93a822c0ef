"""What is shown where a hidden state is asked for: the newest frame, where a stream has none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...adastate_core.stream.state import StreamState

NOTHING_YET = "nothing to show yet: stream a chunk first"


@dataclass(frozen=True, slots=True, repr=False)
class ShownHidden:
    """The hidden states of a stream as they are shown.

    Args:
        newest: Latents of slot 0, or of the newest frame; None where there is nothing at all.
        all: One frame of every chunk, along the batch; None likewise.
        note: What stands in for a hidden state, and why; empty where nothing does.
    """

    newest: Tensor | None
    all: Tensor | None
    note: str = ""

    @classmethod
    def of(cls, state: StreamState) -> ShownHidden:
        """Return what a stream shows for its hidden states."""
        newest, every = state.context.anchor, state.hidden_states()
        frame = _newest_frame(state) if newest is None else None
        frames = _newest_frames(state) if every is None else None
        if frame is not None:
            note = f"no hidden state ({_reason(state)}): this is the newest frame"
        elif frames is not None:
            note = f"no hidden states ({_reason(state)}): these are the newest frames of the chunks"
        else:
            note = "" if newest is not None else NOTHING_YET
        return cls(
            newest if newest is not None else frame, every if every is not None else frames, note
        )


def _newest_frame(state: StreamState) -> Tensor | None:
    window = state.context.window
    if window is None:
        last = state.last_chunk
        window = last.content if last is not None else None
    return window[:, :, -1:] if window is not None else None


def _newest_frames(state: StreamState) -> Tensor | None:
    """Return the newest frame of every chunk that is kept, or else of what the stream begins with.

    Along the batch, as hidden states are.
    """
    kept = [chunk.content for chunk in state.kept_chunks() if chunk.content is not None]
    if kept:
        return torch.cat([content[:, :, -1:] for content in kept], dim=0)
    return _newest_frame(state)


def _reason(state: StreamState) -> str:
    last = state.last_chunk
    if last is None:
        return "no chunk yet"
    return f"anchor {last.config.anchor}" if last.state is None else "after a reset"
