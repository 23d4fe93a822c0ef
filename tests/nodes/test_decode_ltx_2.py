"""LTX-2 in parts: both decoders look at what follows, and how well parts join is measured."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.tiny_vaes import ltx_2_sound, ltx_2_video

TICKS = (26, 25, 25)
"""Sound latents of a first chunk of 4 latent frames and of chunks of 3, at 24 pictures a second."""


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=[1, 5], ids=["few layers", "as many layers as published"])
def video(request: pytest.FixtureRequest) -> Any:
    return ltx_2_video(layers=request.param)


@pytest.fixture(scope="module", params=[False, True], ids=["2.0", "2.3"])
def sound(request: pytest.FixtureRequest) -> Any:
    return ltx_2_sound(wide=request.param)


@pytest.fixture(scope="module")
def pictures(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.decoders")


@pytest.fixture(scope="module")
def sounds(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.sound_decoders")


def in_parts(decoder: Any, latents: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    decoder.load()
    parts = [decoder.decode(part) for part in latents.split(sizes, dim=2)]
    return [*parts, decoder.flush()]


def test_what_is_said_of_the_joins_is_how_far_they_are_off(pictures: Any, video: Any) -> None:
    latents = random(1, 128, 25, 2, 2)
    decoder = pictures.open_decoder(video, (1, 128, 4, 2, 2))
    parts = in_parts(decoder, latents, (4, *[3] * 7))
    whole = video.decode(latents).detach()
    joined = torch.cat(parts, dim=1)
    assert joined.shape == whole.shape
    assert not decoder.exact
    assert decoder.note.startswith(
        "parts are joined by an overlap of 4 latent frames before and 4 after; twice as many"
    )
    told = float(decoder.note.rsplit(" ", 1)[1])
    off = (joined - whole).abs().max().item()
    assert 0.4 * off <= told + 5e-4
    assert told - 5e-4 <= 1.2 * off
    assert off < 0.05 < whole.std()


def test_pictures_come_4_latents_later_and_the_rest_at_the_end(pictures: Any, video: Any) -> None:
    latents = random(1, 128, 10, 2, 2)
    decoder = pictures.open_decoder(video, (1, 128, 4, 2, 2))
    parts = in_parts(decoder, latents, (4, 3, 3))
    assert decoder.held_back == 4
    assert [part.shape[1] for part in parts] == [0, 17, 24, 32]
    assert sum(part.shape[1] for part in parts) == decoder.frames_of(10) == 73
    assert "too short to measure" in decoder.note


def test_a_video_in_one_part_is_that_of_vae_decode(pictures: Any, video: Any) -> None:
    latents = random(1, 128, 6, 2, 2)
    decoder = pictures.open_decoder(video, (1, 128, 6, 2, 2))
    decoder.load()
    shown = decoder.decode(latents)
    whole = video.decode(latents)
    assert torch.equal(torch.cat((shown, decoder.flush()), dim=1)[:, :9], whole[:, :9])
    assert torch.equal(decoder.decode_alone(latents), whole)
    short = pictures.open_decoder(video, (1, 128, 3, 2, 2))
    short.load()
    assert short.decode(latents[:, :, :3]).shape[1] == 0
    assert torch.equal(short.flush(), video.decode(latents[:, :, :3]))


def heard(vae: Any, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        return vae.decode(latents).movedim(-1, 1)


@pytest.mark.newest
@pytest.mark.parametrize("sizes", [(26, 25, 25), (50,), (1, 2, 9, 30), (75, 25)])
def test_sound_in_parts_is_the_whole_sound(sounds: Any, sound: Any, sizes: tuple[int, ...]) -> None:
    latents = random(1, 8, sum(sizes), 16)
    decoder = sounds.open_sound_decoder(sound, (1, 8, max(sizes), 16))
    parts = in_parts(decoder, latents, sizes)
    whole = heard(sound, latents)
    assert decoder.sample_rate == sound.first_stage_model.output_sample_rate
    # A spectrogram of 100 frames a second, 4 for a latent but one for the first.
    assert whole.shape[2] == decoder.sample_rate * (4 * sum(sizes) - 3) // 100
    assert whole.shape[2] == decoder.samples_of(sum(sizes))
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=2e-6, rtol=0)
    assert whole.std() > 0.01
    assert not decoder.note


@pytest.mark.newest
def test_how_far_the_sound_is_off_is_measured(
    pack: Any, sounds: Any, sound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = importlib.import_module(f"{pack.__name__}.adastate_core.vae.sound")
    described = core.SoundVae.of(sound.first_stage_model)
    from dataclasses import replace

    hasty = replace(described, overlap=3, ahead=1)
    latents = random(1, 8, 40, 16)
    decoder = sounds.SoundDecoder(sound, hasty, 1, 5)
    joined = torch.cat(in_parts(decoder, latents, (5,) * 8), dim=2)
    off = float((joined - heard(sound, latents)).abs().max())
    assert off > 1e-3
    assert "overlap of 3 latents before and 1 after" in decoder.note
    told = float(decoder.note.split("at most ")[1].split(" ")[0])
    assert 0.1 * off <= told <= 1.2 * off


def test_the_control_sound_of_chunks_decoded_alone_is_too_short(sound: Any) -> None:
    latents = random(1, 8, 51, 16)
    alone = [heard(sound, part) for part in latents.split((26, 25), dim=2)]
    assert sum(part.shape[2] for part in alone) < heard(sound, latents).shape[2]


@pytest.mark.newest
def test_a_mark_is_heard_in_time_after_60_chunks(sounds: Any) -> None:
    vae = ltx_2_sound(channels=8, vocoder=32)
    sizes = [26, *[25] * 59]
    latents = torch.zeros((1, 8, sum(sizes), 16))
    mark = sum(sizes) - 10
    latents[:, :, mark] = random(1, 8, 16)
    decoder = sounds.open_sound_decoder(vae, (1, 8, 26, 16))
    wave = torch.cat(in_parts(decoder, latents, tuple(sizes)), dim=2)
    assert wave.shape[2] == decoder.samples_of(sum(sizes))
    energy = wave[0].double().square().sum(dim=0)
    begin, end = decoder.samples_of(mark), decoder.samples_of(mark + 1)
    centre = float((energy * torch.arange(len(energy))).sum() / energy.sum())
    # The spectrogram looks back: what is heard of a latent begins with it and lasts.
    assert begin - 4 * 960 < centre < end + 8 * 960
    short = heard(vae, latents[:, :, mark - 60 :])
    both = 60 * 960
    torch.testing.assert_close(wave[..., -both:], short[..., -both:], atol=2e-6, rtol=0)


def test_a_vae_at_the_wrong_socket_is_refused(
    pictures: Any, sounds: Any, video: Any, sound: Any
) -> None:
    with pytest.raises(ValueError, match=r"^The VAE at vae makes sound and no pictures"):
        pictures.open_decoder(sound, (1, 128, 3, 2, 2))
    with pytest.raises(ValueError, match=r"^The VAE at audio_vae is none for sound"):
        sounds.open_sound_decoder(video, (1, 8, 25, 16))
    with pytest.raises(ValueError, match=r"^The VAE at audio_vae belongs to another model"):
        sounds.open_sound_decoder(sound, (1, 32, 28, 2))
