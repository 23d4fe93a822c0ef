"""Says which pictures a latent frame and a chunk stand for, and what is true of them.

A stream's first latent frame is one picture, every later one is four; a chunk is three of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.anchors.clips import middles
from training.panorama.journey import Journey, truth
from training.panorama.prompts import REGION_LENGTH, REGIONS
from training.settings import CHUNK_FRAMES

Array = NDArray[np.float64]
STRIDE = 4
RING = REGION_LENGTH * len(REGIONS)


def first_picture(frame: int) -> int:
    """Return the first picture that a latent frame stands for."""
    return 0 if frame == 0 else STRIDE * (frame - 1) + 1


def stream_times(streams: int, chunks: int) -> Tensor:
    """Times ``(streams, 3 chunks)`` of the latent frames of streams that begin at departure."""
    return middles(torch.arange(CHUNK_FRAMES * chunks)).expand(streams, -1)


def moments(chunks: int, every: int) -> list[int]:
    """Return every ``every``-th chunk of a stream, and the last one."""
    return sorted({*range(0, chunks, every), chunks - 1})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a prompt asks of each of K chunks.

    ``travel (K,)`` is the way since departure, signed, and ``place (K,)`` where on the ring that
    is, in pixels of the near layer; ``speed (K,)`` is signed too, in pixels a picture; ``light
    (K,)`` is 0 by day and 1 by night; ``path (K, 3, 2)`` is x and y of the subject in pixels at
    each latent frame.
    """

    travel: Array
    place: Array
    speed: Array
    light: Array
    path: Array


def asked(journeys: Sequence[Journey], times: Tensor) -> list[Asked]:
    """Work out what is true of chunks of clips.

    Place, speed and light are those of the middle latent frame of a chunk.

    Args:
        journeys: N clips.
        times: ``(N, 3 K)`` middles of the latent frames, in pictures since departure.
    """
    told = truth(journeys, times)
    rows = []
    for row, journey in enumerate(journeys):
        place = _middle(told.place[row])
        path = torch.stack([told.x[row], told.y[row]], 1).unflatten(0, (-1, CHUNK_FRAMES))
        rows.append(
            Asked(
                travel=place,
                place=(place + journey.departure) % RING,
                speed=_middle(told.speed[row]),
                light=_middle(told.light[row]),
                path=path.double().numpy(),
            )
        )
    return rows


def _middle(values: Tensor) -> Array:
    kept: Array = values[CHUNK_FRAMES // 2 :: CHUNK_FRAMES].double().numpy()
    return kept
