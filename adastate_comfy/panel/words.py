"""What a running stream says of itself."""

from __future__ import annotations

from textwrap import shorten

from ...adastate_core.stream.pace import count_of
from .panel_document import RunPlan

_PROMPT_SHOWN = 60


def progress_words(plan: RunPlan, chunk: int, prompt: str, left: float | None) -> str:
    """Say which chunk is being made, of which prompt, and how long the rest will take.

    >>> plan = RunPlan(first_chunk=0, chunks=12, chunk_frames=3, time_stride=4, fps=16.0)
    >>> progress_words(plan, 3, "a red circle moves left", 8.2)
    'chunk 3 of 12 - a red circle moves left - 8 s left'
    """
    parts = [f"chunk {chunk} of {plan.last_chunk}"]
    if prompt:
        parts.append(shorten(prompt, _PROMPT_SHOWN, placeholder="..."))
    if left is not None:
        parts.append(f"{duration(left)} left")
    return " - ".join(parts)


def done_words(plan: RunPlan) -> str:
    """Say how long the stream is now.

    >>> done_words(RunPlan(first_chunk=8, chunks=4, chunk_frames=3, time_stride=4, fps=16.0))
    '12 chunks = 141 frames, 8.8 s'
    """
    count = plan.last_chunk
    frames = count_of(plan.images_of(count * plan.chunk_frames), "frame")
    return f"{count_of(count, 'chunk')} = {frames}, {plan.seconds_of(count):.1f} s"


def duration(seconds: float) -> str:
    """Say a time in words.

    >>> duration(8.2), duration(130.0), duration(4000.0)
    ('8 s', '2 min', '1 h 7 min')
    """
    if seconds < 100:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
