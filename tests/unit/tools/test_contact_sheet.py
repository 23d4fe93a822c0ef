"""Which frames the demo's picture shows, and its size."""

from __future__ import annotations

import pytest
from PIL import Image

from tools.contact_sheet import ChunkPictures, compose, fitted, split_chunks


def numbered(count: int) -> list[Image.Image]:
    """Return pictures whose only pixel is their number."""
    return [Image.new("L", (1, 1), number) for number in range(count)]


def shown(chunks: list[ChunkPictures]) -> list[tuple[int, ...]]:
    return [tuple(frame.getpixel((0, 0)) for frame in chunk.frames) for chunk in chunks]


def states_shown(chunks: list[ChunkPictures]) -> list[int | None]:
    return [chunk.state.getpixel((0, 0)) if chunk.state else None for chunk in chunks]


def test_first_chunk_is_shorter_because_its_first_latent_is_one_frame() -> None:
    # 9 latent frames at stride 4 decode to 33 frames: chunks of 9, 12 and 12.
    chunks = split_chunks(numbered(33), numbered(3), chunks=3, chunk_frames=3)
    assert shown(chunks) == [(0, 4), (9, 15), (21, 27)]
    assert states_shown(chunks) == [0, 1, 2]


def test_states_decoded_as_one_clip_are_thinned_out() -> None:
    chunks = split_chunks(numbered(33), numbered(9), chunks=3, chunk_frames=3)
    assert states_shown(chunks) == [0, 4, 8]


def test_without_states_the_row_is_left_out() -> None:
    chunks = split_chunks(numbered(33), [], chunks=3, chunk_frames=3)
    assert states_shown(chunks) == [None, None, None]


def test_a_video_without_time_compression() -> None:
    chunks = split_chunks(numbered(6), [], chunks=2, chunk_frames=3)
    assert shown(chunks) == [(0, 1), (3, 4)]


def test_long_streams_take_more_bands() -> None:
    def sheet(chunks: int) -> Image.Image:
        frames = [Image.new("RGB", (128, 128)) for _ in range(12 * chunks - 3)]
        pictures = split_chunks(frames, frames[:chunks], chunks, chunk_frames=3)
        return compose(pictures, "title", "subtitle")

    one_band, two_bands = sheet(8), sheet(9)
    assert one_band.width == two_bands.width
    assert one_band.width > 8 * 256
    assert two_bands.height > one_band.height + 3 * 256


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((128, 128), (240, 240), (240, 240)),
        ((192, 112), (240, 240), (240, 140)),
        ((192, 112), (492, 240), (411, 240)),
        ((112, 192), (240, 240), (140, 240)),
    ],
)
def test_a_frame_keeps_its_shape(
    size: tuple[int, int], box: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fitted(Image.new("RGB", size), *box) == expected
