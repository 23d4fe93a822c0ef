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


def moving(frames: int) -> Tensor:
    """Return a bright spot that moves over a slow gradient, and ends elsewhere."""
    across = torch.linspace(0, 1, 64)[None, None, :, None]
    down = torch.linspace(0, 1, 48)[None, :, None, None]
    place = torch.linspace(0.2, 0.8, frames)[:, None, None, None]
    spot = torch.exp(-((across - place) ** 2 + (down - 0.5) ** 2) / 0.01)
    return (0.3 * down + 0.6 * spot).expand(-1, -1, -1, 3).contiguous()


def changes(video: Tensor) -> Tensor:
    """Return how much each frame differs from the next one, the last from the first."""
    return (video - video.roll(-1, dims=0)).abs().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("frames", [60, 120])
def test_the_jump_is_no_larger_than_what_moves_anyway(looping: Any, frames: int) -> None:
    plain = changes(moving(frames))
    usual = float(plain[:-1].mean())
    assert float(plain[-1]) > 10 * usual
    looped = changes(looping.close_loop(moving(frames), 24))
    assert float(looped[-1]) < 2 * usual
    assert float(looped.max()) < 3 * usual


def test_nothing_changes_without_a_loop(looping: Any) -> None:
    assert looping.close_loop(ramp(5), 0).equal(ramp(5))


def test_a_short_video_fades_over_what_it_has(looping: Any) -> None:
    assert looping.close_loop(ramp(7), 99).equal(looping.close_loop(ramp(7), 3))
    assert looping.close_loop(ramp(2), 99).equal(ramp(2))
    assert looping.close_loop(ramp(1), 99).equal(ramp(1))


def test_a_stream_loops(
    pack: Any,
    node_classes: dict[str, Any],
    tiny_models: Any,
    looping: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import nodes

    said: list[str] = []
    decode = importlib.import_module(f"{pack.__name__}.nodes.decode")
    monkeypatch.setattr(decode, "write_under", lambda _, text: said.append(text))

    harness = NodeHarness(node_classes, WAN, SMALL)
    vae = nodes.VAELoader().load_vae(WAN_VAE)[0]
    state, _ = harness.step(harness.fresh(batch=2), 3)
    (plain, _) = harness.run("AdaStateDecode", vae, state)
    (looped, _) = harness.run("AdaStateDecode", vae, state, loop=12)
    # Each video of the batch loops for itself.
    expected = [looping.close_loop(video, 12) for video in plain.split(len(plain) // 2)]
    torch.testing.assert_close(looped, torch.cat(expected), atol=1e-4, rtol=0)
    assert len(looped) == len(plain) - 2 * 12
    assert not said
    harness.run("AdaStateDecode", vae, state, loop=17)
    assert said == ["too short to loop over 17 frames: its end fades over 16"]
