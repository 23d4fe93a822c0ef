"""What a running stream says of itself."""

from __future__ import annotations

from textwrap import shorten

_PROMPT_SHOWN = 60


def progress_words(chunk: int, chunks: int, prompt: str, left: float | None) -> str:
    """Say which chunk is being made, of which prompt, and how long the rest will take.

    >>> progress_words(3, 12, "a red circle moves left", 8.2)
    'chunk 3 of 12 - a red circle moves left - 8 s left'
    """
    parts = [f"chunk {chunk} of {chunks}"]
    if prompt:
        parts.append(shorten(prompt, _PROMPT_SHOWN, placeholder="..."))
    if left is not None:
        parts.append(f"{duration(left)} left")
    return " - ".join(parts)


def duration(seconds: float) -> str:
    """Say a time in words.

    >>> duration(8.2), duration(130.0), duration(4000.0)
    ('8 s', '2 min', '1 h 7 min')
    """
    if seconds < 100:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
