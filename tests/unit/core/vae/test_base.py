"""A clip in parts: the groups in which an encoder is handed its frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adastate_core.errors import LayoutError
from adastate_core.vae.base import StreamEncoder


class Groups(StreamEncoder):
    """An encoder whose latents are the frames that it was given."""

    def __init__(self, first: int, stride: int) -> None:
        super().__init__(first, stride)
        self.groups: list[tuple[list[int], bool]] = []

    def _encode(self, frames: Tensor, *, last: bool) -> None:
        self.groups.append((frames.flatten().int().tolist(), last))

    def _latents(self) -> Tensor:
        return torch.tensor([x for group, _ in self.groups for x in group])


def frames(first: int, count: int) -> Tensor:
    return torch.arange(first, first + count).float().reshape(1, 1, count, 1, 1)


@pytest.mark.parametrize("sizes", [(9,), (1, 8), (3, 3, 3), (1,) * 9, (8, 1), (0, 9)])
def test_groups_do_not_depend_on_the_parts(sizes: tuple[int, ...]) -> None:
    encoder, first = Groups(1, 4), 0
    for size in sizes:
        encoder.add(frames(first, size))
        first += size
    assert encoder.finish().tolist() == list(range(9))
    assert encoder.groups == [([0], False), ([1, 2, 3, 4], False), ([5, 6, 7, 8], True)]


def test_the_newest_group_waits_until_it_is_known_to_be_the_last() -> None:
    encoder = Groups(1, 4)
    encoder.add(frames(0, 5))
    assert encoder.groups == [([0], False)]
    encoder.add(frames(5, 1))
    assert len(encoder.groups) == 2


def test_one_frame_is_a_clip() -> None:
    encoder = Groups(1, 4)
    encoder.add(frames(0, 1))
    encoder.finish()
    assert encoder.groups == [([0], True)]


@pytest.mark.parametrize("count", [2, 4, 6])
def test_a_clip_that_does_not_come_out_even_is_refused(count: int) -> None:
    encoder = Groups(1, 4)
    encoder.add(frames(0, count))
    with pytest.raises(LayoutError, match=f"{(count - 1) % 4} frames are left over"):
        encoder.finish()


def test_no_clip_is_refused() -> None:
    with pytest.raises(LayoutError, match="0 frames are left over"):
        Groups(1, 4).finish()
