"""Encode Clip for Stream: groups of frames equal the whole, from pictures and from files."""

from __future__ import annotations

import importlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN
from tests.support.tiny_vaes import random_weights, taehv, wan_21, wan_22

MAKERS = [wan_21, wan_22, taehv(16), taehv(48), taehv(128)]


def moving(frames: int, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
    shape = (1, channels, frames, height, width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=MAKERS)
def vae_of_a_class(request: pytest.FixtureRequest) -> nn.Module:
    return random_weights(request.param())


@pytest.fixture(scope="module")
def encoded_at_once(vae_of_a_class: nn.Module) -> Tensor:
    with torch.inference_mode():
        latents: Tensor = vae_of_a_class.encode(moving(17))
    return latents


@pytest.mark.parametrize("sizes", [(17,), (1,) * 17, (1, 4, 4, 4, 4), (7, 2, 8)])
def test_groups_equal_the_whole(
    core: Any, vae_of_a_class: nn.Module, encoded_at_once: Tensor, sizes: tuple[int, ...]
) -> None:
    encoding = importlib.import_module(f"{core.__name__}.vae.registry")
    encoder = encoding.stream_encoder(vae_of_a_class)
    with torch.inference_mode():
        for part in moving(17).split(sizes, dim=2):
            encoder.add(part)
        latents = encoder.finish()
    torch.testing.assert_close(latents, encoded_at_once, atol=1e-4, rtol=0)
    assert latents.std() > 0.01
    assert latents.shape[2] == 1 + 16 // encoder.stride


@pytest.mark.parametrize("frames", [1, 5, 9, 13])
def test_short_clips_equal_the_whole(core: Any, vae_of_a_class: nn.Module, frames: int) -> None:
    encoding = importlib.import_module(f"{core.__name__}.vae.registry")
    encoder, clip = encoding.stream_encoder(vae_of_a_class), moving(frames)
    with torch.inference_mode():
        encoder.add(clip)
        expected = vae_of_a_class.encode(clip)
        torch.testing.assert_close(encoder.finish(), expected, atol=1e-4, rtol=0)


def test_frames_that_do_not_come_out_even_are_refused(core: Any) -> None:
    encoding = importlib.import_module(f"{core.__name__}.vae.registry")
    encoder = encoding.stream_encoder(random_weights(wan_21()))
    with pytest.raises(ValueError, match="0 frames are left over"):
        encoder.finish()
    with torch.inference_mode():
        encoder.add(moving(7))
        with pytest.raises(ValueError, match=r"2 frames are left over.* groups of 4"):
            encoder.finish()


def test_other_and_changed_vaes_are_refused(core: Any) -> None:
    encoding = importlib.import_module(f"{core.__name__}.vae.registry")
    decoding = importlib.import_module(f"{core.__name__}.vae.registry")
    with pytest.raises(
        ValueError, match=r"^This VAE is not one that can be used here \(Identity\)"
    ):
        encoding.stream_encoder(nn.Identity())
    for make in MAKERS:
        changed = make()
        changed.encoder, changed.decoder = nn.Identity(), nn.Identity()
        with pytest.raises(ValueError, match=r"of another layout.*with VAE Encode"):
            encoding.stream_encoder(changed)
        with pytest.raises(ValueError, match=r"of another layout.*with VAE Decode"):
            decoding.stream_decoder(changed)


@pytest.fixture(scope="module")
def harness(pack: Any, node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    encode = importlib.import_module(f"{pack.__name__}.nodes.encode")
    return NodeHarness({**node_classes, "AdaStateEncode": encode.AdaStateEncode}, WAN)


@pytest.fixture
def texts(pack: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what the node writes under itself."""
    encode = importlib.import_module(f"{pack.__name__}.nodes.encode")
    written: list[str] = []
    monkeypatch.setattr(encode, "write_under", lambda node_id, text: written.append(text))
    return written


def pictures(frames: int, height: int = 32, width: int = 48) -> Tensor:
    """Return a clip with slow gradients, which a video codec keeps well."""
    across = torch.linspace(0, 1, width)[None, None, :, None]
    down = torch.linspace(0, 1, height)[None, :, None, None]
    time = torch.arange(frames)[:, None, None, None] / frames
    colours = torch.tensor([0.2, 0.5, 0.9])
    return (0.5 + 0.5 * torch.sin(3 * (across + time) + 2 * down + 4 * colours)).float()


def stock(vae: Any, clip: Tensor) -> Tensor:
    with torch.inference_mode():
        return vae.encode(clip)


def scaled(clip: Tensor, width: int, height: int) -> Tensor:
    import comfy.utils

    channels_first = clip.movedim(-1, 1)
    return comfy.utils.common_upscale(channels_first, width, height, "lanczos", "center").movedim(
        1, -1
    )


def test_newest_frames_are_used(harness: NodeHarness, vae: Any, texts: list[str]) -> None:
    clip = pictures(20)
    latent, frames, *_ = harness.run("AdaStateEncode", vae, clip, 0, 0)
    assert frames == 17
    torch.testing.assert_close(latent["samples"], stock(vae, clip[3:]), atol=1e-4, rtol=0)
    assert texts == [
        "uses the last 17 of 20 frames, since the VAE takes 4 frames at a time and 1 at the start"
    ]
    latent, frames, *_ = harness.run("AdaStateEncode", vae, clip[:5], 0, 0)
    assert frames == 5
    torch.testing.assert_close(latent["samples"], stock(vae, clip[:5]), atol=1e-4, rtol=0)
    latent, frames, *_ = harness.run("AdaStateEncode", vae, clip[:1], 0, 0)
    assert (frames, latent["samples"].shape[2]) == (1, 1)
    assert len(texts) == 1


def test_a_clip_is_scaled_to_cover_and_cropped(harness: NodeHarness, vae: Any) -> None:
    clip = pictures(5, height=40, width=100)
    latent, *_ = harness.run("AdaStateEncode", vae, clip, 48, 32)
    expected = stock(vae, scaled(clip, 48, 32))
    torch.testing.assert_close(latent["samples"], expected, atol=1e-4, rtol=0)
    for size, shape in [((0, 32), (4, 10)), ((50, 0), (2, 6)), ((0, 0), (5, 12))]:
        latent, *_ = harness.run("AdaStateEncode", vae, clip, *size)
        assert latent["samples"].shape[-2:] == shape


@pytest.mark.parametrize("channels", [16, 48])
def test_tiny_vaes_as_comfyui_loads_them(harness: NodeHarness, channels: int) -> None:
    import comfy.sd

    tiny = comfy.sd.VAE(sd=random_weights(taehv(channels)()).state_dict())
    clip = pictures(7)
    latent, frames, *_ = harness.run("AdaStateEncode", tiny, clip, 0, 0)
    assert frames == 5
    torch.testing.assert_close(latent["samples"], stock(tiny, clip[2:]), atol=1e-4, rtol=0)


def saved(folder: Path, clip: Tensor) -> Any:
    from comfy_api.latest import InputImpl, Types

    parts = Types.VideoComponents(images=clip, audio=None, frame_rate=Fraction(8))
    video = InputImpl.VideoFromComponents(parts)
    video.save_to(str(folder / "clip.mp4"))
    return InputImpl.VideoFromFile(str(folder / "clip.mp4"))


def test_a_video_file_is_read_frame_by_frame(
    harness: NodeHarness,
    vae: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    texts: list[str],
) -> None:
    # A width that a codec pads: what it pads with must not reach the picture.
    video = saved(tmp_path, pictures(23, height=50, width=100))
    decoded = scaled(video.get_components().images, 64, 32)
    assert decoded.shape[0] == 23

    def whole(*_: Any) -> None:
        raise AssertionError("the whole video was put into memory")

    monkeypatch.setattr(type(video), "get_components", whole)
    latent, frames, *_ = harness.run("AdaStateEncode", vae, video, 64, 32)
    assert frames == 21
    torch.testing.assert_close(latent["samples"], stock(vae, decoded[2:]), atol=1e-4, rtol=0)
    other = stock(vae, decoded[:21])
    assert (latent["samples"] - other).abs().max() > 0.1
    assert len(texts) == 1


def test_a_trimmed_video_and_one_in_memory(harness: NodeHarness, vae: Any, tmp_path: Path) -> None:
    from comfy_api.latest import InputImpl, Types

    clip = pictures(24)
    trimmed = saved(tmp_path, clip).as_trimmed(start_time=1.0, duration=1.125)
    expected = trimmed.get_components().images
    assert expected.shape[0] == 9
    latent, frames, *_ = harness.run("AdaStateEncode", vae, trimmed, 0, 0)
    assert frames == 9
    torch.testing.assert_close(latent["samples"], stock(vae, expected), atol=1e-4, rtol=0)
    parts = Types.VideoComponents(images=clip, audio=None, frame_rate=Fraction(8))
    latent, frames, *_ = harness.run(
        "AdaStateEncode", vae, InputImpl.VideoFromComponents(parts), 0, 0
    )
    assert frames == 21
    torch.testing.assert_close(latent["samples"], stock(vae, clip[3:]), atol=1e-4, rtol=0)


def test_a_stream_goes_on_from_the_clip(harness: NodeHarness, vae: Any) -> None:
    latent, *_ = harness.run("AdaStateEncode", vae, pictures(9), 0, 0)
    state = harness.fresh(start_latent=latent)
    state, _ = harness.step(state)
    (images, _) = harness.run("AdaStateDecode", vae, state, 0, 0, True)
    assert images.shape[0] == 9 + 12


def test_an_empty_clip_is_refused(harness: NodeHarness, vae: Any) -> None:
    with pytest.raises(ValueError, match=r"^The clip has no frames"):
        harness.run("AdaStateEncode", vae, torch.zeros((0, 32, 48, 3)), 0, 0)
