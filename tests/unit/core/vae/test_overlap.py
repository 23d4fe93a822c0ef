"""Parts decoded by overlap: every picture once, and what is wrong with them measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adastate_core.errors import UnsupportedFamilyError
from adastate_core.vae.overlap import OverlapDecoder

STRIDE = 4


def decode(latents: Tensor, reach: int) -> Tensor:
    """Decode to pictures that are the mean of the `reach` latest frames before their own."""
    values = latents[:, 0, :, 0, 0]
    means = [values[:, max(i - reach, 0) : i + 1].mean(1) for i in range(values.shape[1])]
    pictures = torch.stack([means[0], *(m for m in means[1:] for _ in range(STRIDE))], dim=1)
    return pictures[:, :, None, None, None].expand(-1, -1, 2, 2, 3)


def latents(count: int, batch: int = 2) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.rand((batch, 1, count, 1, 1), generator=source)


@pytest.mark.parametrize("sizes", [(12,), (3, 3, 3, 3), (1,) * 12, (5, 1, 6)])
def test_parts_equal_the_whole_where_the_overlap_is_long_enough(sizes: tuple[int, ...]) -> None:
    x = latents(12)
    decoder = OverlapDecoder(lambda part: decode(part, reach=4), STRIDE, overlap=4)
    parts = torch.cat([decoder.decode(part) for part in x.split(sizes, dim=2)], dim=1)
    torch.testing.assert_close(parts, decode(x, reach=4))


def test_where_it_is_too_short_the_difference_is_measured() -> None:
    x = latents(12)
    exact = OverlapDecoder(lambda part: decode(part, reach=2), STRIDE, overlap=3)
    short = OverlapDecoder(lambda part: decode(part, reach=9), STRIDE, overlap=3)
    for part in x.split(3, dim=2):
        exact.decode(part)
        short.decode(part)
    assert exact.difference == pytest.approx(0.0, abs=1e-6)
    assert short.difference is not None
    assert short.difference > 0.01


def test_it_is_measured_once_there_is_twice_the_overlap_before() -> None:
    decoder, calls = OverlapDecoder(lambda part: decode(part, reach=9), STRIDE, overlap=2), []
    for part in latents(10).split(2, dim=2):
        calls.append(decoder.difference is None)
        decoder.decode(part)
    assert calls == [True, True, True, False, False]


def test_of_earlier_parts_only_the_overlap_is_decoded_again() -> None:
    lengths: list[int] = []

    def counted(part: Tensor) -> Tensor:
        lengths.append(part.shape[2])
        return decode(part, reach=1)

    decoder = OverlapDecoder(counted, STRIDE, overlap=2)
    for part in latents(10).split(2, dim=2):
        decoder.decode(part)
    # The fourth is the first with twice the overlap before it, and is decoded with all of that.
    assert lengths == [2, 4, 4, 6, 4, 4]


def centred(part: Tensor, reach: int) -> Tensor:
    """Decode to pictures that see as many frames after their own as before."""
    values = part[:, 0, :, 0, 0]
    means = [values[:, max(i - reach, 0) : i + reach + 1].mean(1) for i in range(values.shape[1])]
    pictures = torch.stack([means[0], *(m for m in means[1:] for _ in range(STRIDE))], dim=1)
    return pictures[:, :, None, None, None].expand(-1, -1, 2, 2, 3)


@pytest.mark.parametrize("sizes", [(12,), (3, 3, 3, 3), (1,) * 12, (5, 1, 6)])
def test_what_follows_is_waited_for_and_the_rest_comes_at_the_end(sizes: tuple[int, ...]) -> None:
    x, known, shown = latents(12), 0, 0
    decoder = OverlapDecoder(lambda part: centred(part, reach=2), STRIDE, overlap=3, ahead=2)
    parts = []
    for part in x.split(sizes, dim=2):
        known += part.shape[2]
        made = decoder.decode(part)
        parts += [made] if made is not None else []
        shown = sum(each.shape[1] for each in parts)
        assert shown == decoder.count_of(max(0, known - 2))
    rest = decoder.flush()
    assert rest is not None
    assert rest.shape[1] == decoder.count_of(12) - shown
    torch.testing.assert_close(torch.cat((*parts, rest), dim=1), centred(x, reach=2))
    assert decoder.flush() is None


def test_too_little_after_a_part_is_measured_too() -> None:
    x = latents(14)
    decoder = OverlapDecoder(lambda part: centred(part, reach=3), STRIDE, overlap=3, ahead=1)
    for part in x.split(2, dim=2):
        decoder.decode(part)
    assert decoder.difference is not None
    assert decoder.difference > 0.01


def test_a_decoder_of_another_stride_is_refused() -> None:
    decoder = OverlapDecoder(lambda part: decode(part, reach=1), stride=8)
    with pytest.raises(UnsupportedFamilyError, match="makes 9 pictures where 17 were expected"):
        decoder.decode(latents(3))
