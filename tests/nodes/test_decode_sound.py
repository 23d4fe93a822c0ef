"""Decode Stream with sound: the sound of the chunks whose images come out, raw and in time."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from comfy.nested_tensor import NestedTensor
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from tests.support.harness import SMALL, NodeHarness
from tests.support.tiny_models import WAN
from tests.support.tiny_vaes import ltx_2_sound, ltx_2_video

RATE, STRIDE, FIRST = 24000, 960, 240
"""Samples a second, of a latent, and of the first one."""


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def video() -> Any:
    return ltx_2_video()


@pytest.fixture(scope="module")
def sound() -> Any:
    return ltx_2_sound(channels=8, vocoder=32)


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, SMALL)


@pytest.fixture(scope="module")
def decoding(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.stream_decoding")


@pytest.fixture(scope="module")
def latent() -> dict[str, Any]:
    """Return 10 latent frames, which are 3 seconds at 24, and their sound."""
    return {"samples": NestedTensor([random(1, 128, 10, 2, 2), random(1, 8, 76, 16)])}


def heard(vae: Any, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        return vae.decode(latents).movedim(-1, 1)


def test_a_latent_with_sound_gives_both(
    harness: NodeHarness, video: Any, sound: Any, latent: dict[str, Any]
) -> None:
    images, audio = harness.run("AdaStateDecode", video, latent=latent, audio_vae=sound)
    pictures, waves = latent["samples"].unbind()
    assert images.shape == video.decode(pictures)[0].shape
    assert audio["sample_rate"] == RATE
    torch.testing.assert_close(audio["waveform"], heard(sound, waves), atol=2e-6, rtol=0)


def test_loud_sound_is_not_made_quieter(
    harness: NodeHarness, video: Any, latent: dict[str, Any]
) -> None:
    """ComfyUI divides a clip by its loudness, which a stream does not know before its end."""
    from comfy_extras.nodes_audio import vae_decode_audio

    loud = ltx_2_sound(channels=8, vocoder=32, volume=2000.0)
    audio = harness.run("AdaStateDecode", video, latent=latent, audio_vae=loud)[1]["waveform"]
    assert audio.std() > 0.25
    with torch.inference_mode():
        host = vae_decode_audio(loud, {"samples": latent["samples"].unbind()[1]})["waveform"]
    torch.testing.assert_close(audio / (5 * audio.std()), host, atol=1e-4, rtol=0)


def is_blocked(output: Any) -> bool:
    return isinstance(output, ExecutionBlocker) and output.message is None


def test_without_sound_or_vae_what_is_behind_it_does_not_run(
    harness: NodeHarness, video: Any, sound: Any, vae: Any, latent: dict[str, Any]
) -> None:
    images, audio = harness.run("AdaStateDecode", video, latent=latent)
    assert is_blocked(audio)
    silent = {"samples": latent["samples"].unbind()[0]}
    again, audio = harness.run("AdaStateDecode", video, latent=silent, audio_vae=sound)
    assert is_blocked(audio)
    assert torch.equal(images, again)
    none = {"samples": NestedTensor([silent["samples"], torch.zeros((1, 8, 0, 16))])}
    assert is_blocked(harness.run("AdaStateDecode", video, latent=none, audio_vae=sound)[1])
    state, _ = harness.step(harness.fresh(), 1)
    assert is_blocked(harness.run("AdaStateDecode", vae, state, audio_vae=sound)[1])


def test_a_wrong_vae_is_refused_before_anything_is_decoded(
    harness: NodeHarness, video: Any, sound: Any, latent: dict[str, Any]
) -> None:
    ran: list[str] = []
    hook = video.first_stage_model.decoder.register_forward_pre_hook(lambda *_: ran.append("ran"))
    with pytest.raises(ValueError, match=r"^The VAE at audio_vae is none for sound .*VideoVAE"):
        harness.run("AdaStateDecode", video, latent=latent, audio_vae=video)
    with pytest.raises(ValueError, match=r"^The VAE at vae makes sound and no pictures"):
        harness.run("AdaStateDecode", sound, latent=latent, audio_vae=sound)
    other = {"samples": NestedTensor([latent["samples"].unbind()[0], random(1, 32, 2, 57)])}
    with pytest.raises(ValueError, match=r"^The VAE at audio_vae belongs to another model"):
        harness.run("AdaStateDecode", video, latent=other, audio_vae=sound)
    hook.remove()
    assert not ran


def test_sound_loops_with_its_pictures(
    harness: NodeHarness, video: Any, sound: Any, latent: dict[str, Any]
) -> None:
    plain, whole = harness.run("AdaStateDecode", video, latent=latent, audio_vae=sound)
    images, audio = harness.run("AdaStateDecode", video, latent=latent, audio_vae=sound, loop=12)
    assert len(images) == len(plain) - 12
    before, after = whole["waveform"], audio["waveform"]
    fade = round(before.shape[2] * 12 / len(plain))
    assert after.shape[2] == before.shape[2] - fade
    assert torch.equal(after[..., :-fade], before[..., fade:-fade])
    # The end passes into what was left out at the beginning.
    torch.testing.assert_close(after[..., -1], before[..., fade - 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(after[..., -fade], before[..., -fade], atol=1e-3, rtol=0)


def plan_of(decoding: Any, latent: dict[str, Any], wanted: set[int], silent_start: int = 0) -> Any:
    """Return a plan of three chunks, as of a stream; a start of some frames may be silent."""
    pictures, waves = latent["samples"].unbind()
    parts, sounds = [], []
    if silent_start:
        given = random(1, 128, silent_start, 2, 2, seed=2)
        parts.append(decoding.LatentPart(decoding.START, given))
        sounds.append(decoding.SoundPart(decoding.START, None, 38))
    sizes = zip(pictures.split((4, 3, 3), dim=2), waves.split((26, 25, 25), dim=2), strict=True)
    for number, (frames, wave) in enumerate(sizes):
        parts.append(decoding.LatentPart(number, frames))
        sounds.append(decoding.SoundPart(number, wave, 0))
    return decoding.DecodePlan(parts, wanted, sounds=sounds)


@pytest.mark.parametrize("wanted", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}], ids=str)
def test_chunks_are_those_of_the_whole_in_both(
    decoding: Any, video: Any, sound: Any, latent: dict[str, Any], wanted: set[int]
) -> None:
    plan = plan_of(decoding, latent, wanted)
    decoded = decoding.run_decoding(video, plan)
    images = decoded.images
    assert len(decoded.numbers) == images.shape[1]
    assert set(decoded.numbers) == wanted
    wave = decoding.open_sound(sound, plan).read()["waveform"]
    frames, ticks = (0, 4, 7, 10), (0, 26, 51, 76)
    first, end = min(wanted), max(wanted) + 1
    whole = video.decode(latent["samples"].unbind()[0])
    low, high = (max(0, 8 * frames[at] - 7) for at in (first, end))
    assert images.shape == whole[:, low:high].shape
    assert (images - whole[:, low:high]).abs().max() < 0.05 < whole.std()
    low, high = (max(0, ticks[at] * STRIDE - STRIDE + FIRST) for at in (first, end))
    expected = heard(sound, latent["samples"].unbind()[1])[..., low:high]
    torch.testing.assert_close(wave, expected, atol=2e-6, rtol=0)


def test_a_silent_start_is_silent_for_as_long_as_it_lasts(
    decoding: Any, sound: Any, latent: dict[str, Any]
) -> None:
    plan = plan_of(decoding, latent, {decoding.START, 0, 1, 2}, silent_start=5)
    wave = decoding.open_sound(sound, plan).read()["waveform"]
    silence = 38 * STRIDE
    assert wave[..., :silence].abs().max() == 0
    expected = heard(sound, latent["samples"].unbind()[1])
    torch.testing.assert_close(wave[..., silence:], expected, atol=2e-6, rtol=0)


def test_of_a_long_sound_only_what_is_heard_is_decoded(decoding: Any, sound: Any) -> None:
    waves = random(1, 8, 600, 16)
    sounds = [decoding.SoundPart(at, part, 3) for at, part in enumerate(waves.split(25, dim=2))]
    decoded: list[int] = []
    hook = sound.first_stage_model.autoencoder.decoder.register_forward_pre_hook(
        lambda _, args: decoded.append(args[0].shape[2])
    )
    pictures = [decoding.LatentPart(at, random(1, 128, 3, 2, 2)) for at in range(24)]
    plan = decoding.DecodePlan(pictures, {20}, sounds=sounds)
    wave = decoding.open_sound(sound, plan).read()["waveform"]
    hook.remove()
    assert sum(decoded) < 200
    low = 500 * STRIDE - STRIDE + FIRST
    expected = heard(sound, waves)[..., low : low + 25 * STRIDE]
    torch.testing.assert_close(wave, expected, atol=2e-6, rtol=0)
