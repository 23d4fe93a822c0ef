"""Decode Stream after chunks of MiniMax H3: pictures and sound are those of ComfyUI's nodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness
from tests.support.sound_streams import (
    HEIGHT,
    WIDTH,
    empty_minimax,
    has_minimax,
    minimax_model,
    minimax_step,
    nested,
)
from tests.support.tiny_models import MINIMAX_H3
from tests.support.tiny_vaes import minimax_h3_sound, minimax_h3_video

pytestmark = pytest.mark.skipif(not has_minimax(), reason="this ComfyUI has no MiniMax H3")
SAMPLES = 800


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, MINIMAX_H3)


@pytest.fixture(scope="module")
def video() -> Any:
    return minimax_h3_video()


@pytest.fixture(scope="module")
def sound() -> Any:
    return minimax_h3_sound(kernels=(3,))


def stream(harness: NodeHarness, chunks: int, start: Any = None, **options: Any) -> Any:
    given = {} if start is None else {"start_latent": start}
    state = harness.run("AdaStateNewStream", empty_minimax(**options), 0, **given)[0]
    return minimax_step(harness, minimax_model(harness), state, chunks)[0]


@pytest.fixture(scope="module")
def three(harness: NodeHarness) -> Any:
    return stream(harness, 3)


def pictures_of(vae: Any, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        return vae.decode(latents)[0]


def sound_of(vae: Any, latents: Tensor) -> Tensor:
    """Decode sound in the order of the host's class."""
    with torch.inference_mode():
        return vae.decode(latents).movedim(-1, 1)


def content_of(harness: NodeHarness, state: Any) -> list[Tensor]:
    return harness.run("AdaStateRead", state)[2]["samples"].unbind()


def test_a_stream_is_what_comfyui_makes_of_its_latent(
    harness: NodeHarness, video: Any, sound: Any, three: Any
) -> None:
    latents, waves = content_of(harness, three)
    images, audio = harness.run("AdaStateDecode", video, three, audio_vae=sound)
    assert torch.equal(images, pictures_of(video, latents))
    assert len(images) == 3 * 17
    assert audio["sample_rate"] == 32000
    assert audio["waveform"].shape == (1, 2, 85 * SAMPLES)
    torch.testing.assert_close(audio["waveform"], sound_of(sound, waves), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("first", "chunks", "ticks"), [(0, 1, (0, 29)), (1, 1, (29, 57)), (1, 0, (29, 85))]
)
def test_some_chunks_are_those_of_the_whole(
    harness: NodeHarness,
    video: Any,
    sound: Any,
    three: Any,
    first: int,
    chunks: int,
    ticks: tuple[int, int],
) -> None:
    latents, waves = content_of(harness, three)
    images, audio = harness.run("AdaStateDecode", video, three, first, chunks, audio_vae=sound)
    end = 17 * (first + chunks) if chunks else None
    assert torch.equal(images, pictures_of(video, latents)[17 * first : end])
    whole = sound_of(sound, waves)[..., ticks[0] * SAMPLES : ticks[1] * SAMPLES]
    torch.testing.assert_close(audio["waveform"], whole, atol=2e-6, rtol=0)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_a_picture_before_the_chunks_is_a_video_of_its_own(
    harness: NodeHarness, video: Any, sound: Any
) -> None:
    """The chunk after it begins with a place of one picture, as a video does."""
    picture = random(1, 24, 1, HEIGHT, WIDTH)
    state = stream(harness, 2, {"samples": picture})
    latents, waves = content_of(harness, state)
    images, audio = harness.run("AdaStateDecode", video, state, audio_vae=sound)
    assert torch.equal(images[:1], pictures_of(video, picture))
    assert torch.equal(images[1:], pictures_of(video, latents))
    wave = audio["waveform"]
    # Of a picture at 24 a second and sound latents at 40, two begin while it is shown.
    assert wave[..., : 2 * SAMPLES].abs().max() == 0
    torch.testing.assert_close(wave[..., 2 * SAMPLES :], sound_of(sound, waves), atol=2e-6, rtol=0)
    without, alone = harness.run("AdaStateDecode", video, state, 0, 0, False, audio_vae=sound)
    assert torch.equal(without, images[1:])
    assert torch.equal(alone["waveform"], wave[..., 2 * SAMPLES :])
    (only, _) = harness.run("AdaStateDecode", video, state, 1, 1, audio_vae=sound)
    assert torch.equal(only, images[18:])


def test_a_start_of_whole_patterns_goes_on_without_a_seam(
    harness: NodeHarness, video: Any, sound: Any
) -> None:
    clip = random(1, 24, 5, HEIGHT, WIDTH)
    state = stream(harness, 2, {"samples": clip})
    assert state.clock.pattern == 5
    latents, waves = content_of(harness, state)
    images, audio = harness.run("AdaStateDecode", video, state, audio_vae=sound)
    whole = torch.cat((clip, latents), dim=2)
    assert torch.equal(images, pictures_of(video, whole))
    # It was given without sound: its 29 latents of sound are silence.
    wave = audio["waveform"]
    assert wave[..., : 29 * SAMPLES].abs().max() == 0
    torch.testing.assert_close(wave[..., 29 * SAMPLES :], sound_of(sound, waves), atol=2e-6, rtol=0)


def test_the_sound_of_a_start_goes_on_into_the_stream(
    harness: NodeHarness, video: Any, sound: Any
) -> None:
    clip, heard = random(1, 24, 5, HEIGHT, WIDTH), random(1, 32, 2, 29)
    state = stream(harness, 2, nested(clip, heard))
    _, waves = content_of(harness, state)
    _, audio = harness.run("AdaStateDecode", video, state, audio_vae=sound)
    whole = sound_of(sound, torch.cat((heard, waves), dim=3))
    torch.testing.assert_close(audio["waveform"], whole, atol=2e-6, rtol=0)


def test_a_stream_without_sound_gives_pictures_alone(
    harness: NodeHarness, video: Any, sound: Any
) -> None:
    from comfy_execution.graph_utils import ExecutionBlocker

    state = stream(harness, 2, sound=False)
    images, audio = harness.run("AdaStateDecode", video, state, audio_vae=sound)
    assert len(images) == 34
    assert isinstance(audio, ExecutionBlocker)
    assert audio.message is None


def test_the_pictures_of_the_panel_do_not_wait_for_the_next_chunk(
    pack: Any, video: Any, three: Any
) -> None:
    import importlib

    live = importlib.import_module(f"{pack.__name__}.adastate_comfy.video.live_pictures")
    source = live.DecodedPictures(video, (1, 24, 5, HEIGHT, WIDTH))
    made = source.pictures_of(three)
    assert made.images == 17
