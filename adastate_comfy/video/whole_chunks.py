"""Pictures and sound that wait until those of a whole chunk are there.

A decoder that looks ahead gives the end of a chunk with the next one. A file takes chunks as a
whole, so that what is in it, its receipts and the stream that goes on from there belong together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...adastate_core.stream.state import StreamState
from .part_decoder import Later


@dataclass(frozen=True, slots=True)
class MadeChunk:
    """What is noted of a chunk once it is written.

    Args:
        state: The stream after it.
        prompt: What its receipt says of the prompt.
        still: The image of its hidden state, or None.
    """

    state: StreamState
    prompt: dict[str, Any]
    still: Later | None


@dataclass(frozen=True, slots=True)
class VideoPart:
    """A part of the video that is decoded.

    Args:
        end: Pictures of the video up to its end.
        heard: Whether it has sound.
        chunk: The chunk that it is; None for given frames.
    """

    end: int
    heard: bool = False
    chunk: MadeChunk | None = None


class WholeChunks:
    """A queue of parts whose pictures and sound come in other pieces.

    Args:
        skipped: Pictures that come first and are not in the video.
        samples: Returns how many samples go with the first pictures of the video; None if it is
            silent.
    """

    def __init__(self, skipped: int = 0, samples: Callable[[int], int] | None = None) -> None:
        self._skipped, self._samples = skipped, samples
        self._seen = self._taken = self._heard = 0
        self._pictures: deque[Tensor] = deque()
        self._sound: list[Tensor] = []
        self._parts: deque[VideoPart] = deque()

    def expect(self, part: VideoPart) -> None:
        """Note the next part."""
        self._parts.append(part)

    def add_pictures(self, pictures: Tensor) -> None:
        """Take the pictures that follow, (frames, H, W, 3), maybe none."""
        skipped = min(self._skipped, len(pictures))
        self._skipped -= skipped
        self._seen += len(pictures) - skipped
        if skipped < len(pictures):
            self._pictures.append(pictures[skipped:])

    def add_sound(self, sound: Tensor) -> None:
        """Take the sound that follows, (channels, samples), maybe none."""
        self._heard += sound.shape[1]
        self._sound.append(sound)

    def whole(self, *, ended: bool = False) -> Iterator[tuple[VideoPart, Tensor, Tensor | None]]:
        """Yield the parts that are whole, with their pictures and all sound that came since.

        Args:
            ended: Whether nothing else comes, so that no part waits for its sound any more.
        """
        while self._parts and self._is_whole(self._parts[0], ended):
            part = self._parts.popleft()
            pictures = self._next(part.end - self._taken)
            self._taken = part.end
            sound, self._sound = self._sound, []
            yield part, pictures, torch.cat(sound, dim=1) if sound else None

    def _is_whole(self, part: VideoPart, ended: bool) -> bool:
        if self._seen < part.end:
            return False
        if self._samples is None or not part.heard or ended:
            return True
        return self._heard >= self._samples(part.end)

    def _next(self, count: int) -> Tensor:
        """Return so many pictures, without a copy where they came as one piece."""
        taken, missing = [], count
        while missing:
            piece = self._pictures.popleft()
            taken.append(piece[:missing])
            if len(piece) > missing:
                self._pictures.appendleft(piece[missing:])
            missing -= len(taken[-1])
        return taken[0] if len(taken) == 1 else torch.cat(taken)
