"""Parts of a video wait until they are whole, and no picture is lost or shown twice."""

from __future__ import annotations

import importlib
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor


@pytest.fixture
def queue(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.whole_chunks")


def pictures(first: int, count: int) -> Tensor:
    """Return pictures that say their number."""
    return torch.arange(first, first + count).view(-1, 1, 1, 1).expand(-1, 2, 2, 3).float()


def numbers(images: Tensor) -> list[int]:
    return images[:, 0, 0, 0].int().tolist()


@pytest.mark.parametrize("pieces", [(12, 12, 12, 12), (5, 12, 12, 19), (0, 0, 40, 8), (1,) * 48])
def test_parts_come_out_whole_however_their_pictures_come(
    queue: Any, pieces: tuple[int, ...]
) -> None:
    waiting = queue.WholeChunks(skipped=3)
    came, found = 0, []
    for end in (9, 21, 33, 45):
        waiting.expect(queue.VideoPart(end))
    for count in pieces:
        waiting.add_pictures(pictures(came, count))
        came += count
        for part, images, sound in waiting.whole():
            assert sound is None
            assert part.end <= came - 3
            found.append(numbers(images))
    assert [len(each) for each in found] == [9, 12, 12, 12]
    assert list(chain.from_iterable(found)) == list(range(3, 48))


def test_pictures_that_come_as_a_part_are_not_copied(queue: Any) -> None:
    waiting, images = queue.WholeChunks(), pictures(0, 12)
    waiting.expect(queue.VideoPart(12))
    waiting.add_pictures(images)
    ((_, made, _),) = waiting.whole()
    assert made.data_ptr() == images.data_ptr()


def test_a_part_waits_for_its_sound_as_well(queue: Any) -> None:
    waiting = queue.WholeChunks(samples=lambda frames: frames * 10)
    waiting.expect(queue.VideoPart(12, heard=True))
    waiting.expect(queue.VideoPart(24, heard=True))
    waiting.expect(queue.VideoPart(36))
    waiting.add_pictures(pictures(0, 36))
    waiting.add_sound(torch.ones(2, 119))
    assert not list(waiting.whole())
    waiting.add_sound(torch.ones(2, 11))
    ((part, _, sound),) = waiting.whole()
    assert (part.end, sound.shape) == (12, (2, 130))
    # Nothing else comes: what is there is all, and silent parts never wait.
    rest = list(waiting.whole(ended=True))
    assert [(part.end, sound) for part, _, sound in rest] == [(24, None), (36, None)]
