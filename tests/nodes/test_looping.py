"""A video that loops: its end passes into its beginning without a jump."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import SMALL, NodeHarness
from tests.support.tiny_models import WAN, WAN_VAE


@pytest.fixture(scope="module")
def looping(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.looping")


def ramp(frames: int) -> Tensor:
    """Return a video whose frames have the values 0, 1, 2 and so on."""
    return torch.arange(float(frames))[:, None, None, None].expand(-1, 2, 4, 3).contiguous()


def test_the_end_passes_into_the_beginning(looping: Any) -> None:
    looped = looping.close_loop(ramp(10), 3)[:, 0, 0, 0]
    # Frames 7, 8 and 9 become 3/4, 2/4 and 1/4 of themselves, and the rest frames 0, 1 and 2.
    expected = [3.0, 4.0, 5.0, 6.0, 5.25, 4.5, 3.75]
    assert looped.tolist() == pytest.approx(expected)


def test_nothing_changes_without_a_loop(looping: Any) -> None:
    assert looping.close_loop(ramp(5), 0).equal(ramp(5))


def test_a_video_that_is_too_short_is_refused(looping: Any) -> None:
    assert len(looping.close_loop(ramp(7), 3)) == 4
    said = r"^A video of 6 frames is too short to loop over 3\. Lower loop on Decode Stream"
    with pytest.raises(ValueError, match=said):
        looping.close_loop(ramp(6), 3)


def test_a_stream_loops(node_classes: dict[str, Any], tiny_models: Any, looping: Any) -> None:
    import nodes

    harness = NodeHarness(node_classes, WAN, SMALL)
    vae = nodes.VAELoader().load_vae(WAN_VAE)[0]
    state, _ = harness.step(harness.fresh(batch=2), 3)
    (plain,) = harness.run("AdaStateDecode", vae, state)
    (looped,) = harness.run("AdaStateDecode", vae, state, loop=12)
    # Each video of the batch loops for itself.
    expected = [looping.close_loop(video, 12) for video in plain.split(len(plain) // 2)]
    torch.testing.assert_close(looped, torch.cat(expected), atol=1e-4, rtol=0)
    assert len(looped) == len(plain) - 2 * 12
