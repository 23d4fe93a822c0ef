"""Compare Streams: rows with names, videos, and what each stream looks back at."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import SMALL, NodeHarness
from tests.support.tiny_models import WAN

SIDE, TOP, GAP = 16, 40, 10
HEIGHT, WIDTH = 32, 64
GOLD = torch.tensor([240, 180, 90]) / 255


@pytest.fixture(scope="module")
def comparison(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.comparison")


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, SMALL)


@pytest.fixture(scope="module")
def streams(harness: NodeHarness) -> dict[str, Any]:
    """Return a stream for each anchor, of one prompt and seed."""
    made = {}
    for anchor in ("adaptive", "frozen", "none"):
        (model,) = harness.run("AdaStateApply", harness.bare, anchor, 3, 3, 1, 3)
        made[anchor], _ = harness.step(harness.fresh(), 2, model=model)
    (held,) = harness.run("AdaStateHold", harness.fresh(), -1)
    made["held"], _ = harness.step(held, 3)
    return made


def cell(picture: Tensor, row: int, column: int) -> Tensor:
    """Return a picture of a row, without the frame that is drawn on it."""
    right = picture.shape[1] - SIDE
    left = right - WIDTH if column else right - 2 * WIDTH - GAP
    top = TOP + row * (HEIGHT + GAP)
    return picture[top + 3 : top + HEIGHT - 3, left + 3 : left + WIDTH - 3]


def enlarged(comparison: Any, image: Tensor) -> Tensor:
    """Return an image as a row shows it, without its margin."""
    shown = comparison._picture(image, (WIDTH, HEIGHT))
    pixels = torch.frombuffer(bytearray(shown.tobytes()), dtype=torch.uint8)
    return pixels.view(HEIGHT, WIDTH, 3)[3:-3, 3:-3] / 255


def test_rows_show_the_videos(
    harness: NodeHarness, comparison: Any, vae: Any, streams: dict[str, Any]
) -> None:
    names = ("adaptive", "frozen", "none")
    states = {f"stream_{n}": streams[name] for n, name in enumerate(names, 1)}
    (images,) = harness.run("AdaStateCompare", vae, labels="a, b, c", height=HEIGHT, **states)
    assert len(images) == 21
    assert not images.shape[1] % 2
    assert not images.shape[2] % 2
    for row, name in enumerate(names):
        (video, _) = harness.run("AdaStateDecode", vae, streams[name])
        for index in (0, 8, 20):
            shown = cell(images[index], row, 0)
            torch.testing.assert_close(shown, enlarged(comparison, video[index]), atol=0, rtol=0)


def test_beside_it_stands_what_the_next_chunk_looks_back_at(
    harness: NodeHarness, comparison: Any, vae: Any, streams: dict[str, Any]
) -> None:
    (images,) = harness.run(
        *("AdaStateCompare", vae, streams["adaptive"], "", HEIGHT),
        stream_2=streams["held"],
        stream_3=streams["none"],
    )
    latent = harness.run("AdaStateRead", streams["adaptive"])[5]
    with torch.inference_mode():
        hidden = vae.decode(latent["samples"])[:, 0]
    # Chunk 0 makes 9 frames, chunk 1 another 12.
    for index, chunk in ((0, 0), (8, 0), (9, 1), (20, 1)):
        expected = enlarged(comparison, hidden[chunk])
        torch.testing.assert_close(cell(images[index], 0, 1), expected, atol=0.01, rtol=0)
    assert (cell(images[0], 0, 1) - cell(images[20], 0, 1)).abs().max() > 0.02
    held = [cell(images[index], 1, 1) for index in (0, 20, 32)]
    assert held[0].equal(held[1])
    assert held[0].equal(held[2])
    # Nothing to look back at: an empty box with words, and no golden frame.
    assert cell(images[20], 2, 1).std() < 0.15
    assert cell(images[0], 2, 1).equal(cell(images[20], 2, 1))


def test_a_shorter_stream_stays_at_its_end(
    harness: NodeHarness, vae: Any, streams: dict[str, Any]
) -> None:
    (images,) = harness.run(
        "AdaStateCompare", vae, streams["adaptive"], "", HEIGHT, stream_2=streams["held"]
    )
    assert len(images) == 33
    assert cell(images[32], 0, 0).equal(cell(images[20], 0, 0))
    assert not cell(images[32], 1, 0).equal(cell(images[20], 1, 0))


def test_names_are_drawn(harness: NodeHarness, vae: Any, streams: dict[str, Any]) -> None:
    def left(labels: str) -> Tensor:
        (images,) = harness.run("AdaStateCompare", vae, streams["none"], labels, HEIGHT)
        return images[0][TOP : TOP + HEIGHT, : images.shape[2] - 2 * WIDTH - GAP - SIDE]

    plain = left("")
    assert plain.max() > 0.5  # the number of the row
    assert not plain.equal(left("adaptive"))
    assert plain.equal(left("stream 1"))
    assert left("a name that is much longer than the others").shape[1] > plain.shape[1]


def test_a_stream_that_has_not_begun_is_refused(
    harness: NodeHarness, vae: Any, streams: dict[str, Any]
) -> None:
    said = r"^The stream 'new' has no chunk yet\. Put Stream Chunks in front of Compare Streams\.$"
    with pytest.raises(ValueError, match=said):
        harness.run("AdaStateCompare", vae, harness.fresh(), "new", HEIGHT)


def test_a_frame_belongs_to_the_chunk_that_made_it(
    comparison: Any, vae: Any, streams: dict[str, Any]
) -> None:
    shown = comparison.ComparedStream.of("a", streams["adaptive"], vae)
    assert shown.chunk_of == (0,) * 9 + (1,) * 12
    late = comparison.ComparedStream.of("a", streams["adaptive"].rewind(0), vae)
    assert late.chunk_of == (0,) * 9
