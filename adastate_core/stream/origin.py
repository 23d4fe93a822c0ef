"""Where a state was opened from."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StreamOrigin:
    """The revision of a named stream that a state continues.

    Args:
        name: Name of the stream.
        stream: Its random id; empty while there is no stream of this name.
        revision: The revision that was opened; 0 while there is none.
        held: What this process knows of that revision, for `named_stream` alone.
    """

    name: str
    stream: str = ""
    revision: int = 0
    held: object = field(default=None, compare=False, repr=False)
